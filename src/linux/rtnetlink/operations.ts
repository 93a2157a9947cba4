/**
 * Changes as data, for `Rtnetlink.transaction`: many of them in one send. The kernel has no all-or-nothing here: it
 * works through the list in order and goes on after one that it refuses.
 */
import { KernelError } from '../errors.ts';
import type { MessageWriter } from '../netlink/writer.ts';
import { type AddressSpec, encodeDeleteAddress, encodeNewAddress } from './addresses.ts';
import { encodeDeleteLink, encodeSetLink, type LinkChanges } from './links.ts';
import {
  encodeDeleteFdb,
  encodeDeleteNeighbour,
  encodeNewFdb,
  encodeReplaceNeighbour,
  type FdbSpec,
  type NeighbourSpec,
} from './neighbours.ts';
import type { Device, ResolveDevice } from './protocol.ts';
import { encodeDeleteRoute, encodeNewRoute, type RouteSpec } from './routes.ts';
import { encodeDeleteRule, encodeNewRule, type RuleSpec } from './rules.ts';

export type Operation =
  | { readonly op: 'addRoute' | 'replaceRoute' | 'appendRoute' | 'deleteRoute'; readonly route: RouteSpec }
  | { readonly op: 'addAddress' | 'replaceAddress' | 'deleteAddress'; readonly address: AddressSpec }
  | { readonly op: 'replaceNeighbour' | 'deleteNeighbour'; readonly neighbour: NeighbourSpec }
  | { readonly op: 'replaceFdb' | 'appendFdb' | 'deleteFdb'; readonly fdb: FdbSpec }
  | { readonly op: 'addRule' | 'deleteRule'; readonly rule: RuleSpec }
  | { readonly op: 'setLink'; readonly device: Device; readonly changes: LinkChanges }
  | { readonly op: 'deleteLink'; readonly device: Device };

/** One operation that was refused. */
export interface OperationFailure {
  readonly operation: Operation;
  readonly error: KernelError;
}

export function encodeOperation(w: MessageWriter, operation: Operation, resolve: ResolveDevice): void {
  switch (operation.op) {
    case 'addRoute':
      encodeNewRoute(w, 'add', operation.route, resolve);
      break;
    case 'replaceRoute':
      encodeNewRoute(w, 'replace', operation.route, resolve);
      break;
    case 'appendRoute':
      encodeNewRoute(w, 'append', operation.route, resolve);
      break;
    case 'deleteRoute':
      encodeDeleteRoute(w, operation.route, resolve);
      break;
    case 'addAddress':
      encodeNewAddress(w, 'add', operation.address, resolve);
      break;
    case 'replaceAddress':
      encodeNewAddress(w, 'replace', operation.address, resolve);
      break;
    case 'deleteAddress':
      encodeDeleteAddress(w, operation.address, resolve);
      break;
    case 'replaceNeighbour':
      encodeReplaceNeighbour(w, operation.neighbour, resolve);
      break;
    case 'deleteNeighbour':
      encodeDeleteNeighbour(w, operation.neighbour, resolve);
      break;
    case 'replaceFdb':
      encodeNewFdb(w, 'replace', operation.fdb, resolve);
      break;
    case 'appendFdb':
      encodeNewFdb(w, 'append', operation.fdb, resolve);
      break;
    case 'deleteFdb':
      encodeDeleteFdb(w, operation.fdb, resolve);
      break;
    case 'addRule':
      encodeNewRule(w, operation.rule);
      break;
    case 'deleteRule':
      encodeDeleteRule(w, operation.rule);
      break;
    case 'setLink':
      encodeSetLink(w, resolve(operation.device), operation.changes, resolve);
      break;
    case 'deleteLink':
      encodeDeleteLink(w, resolve(operation.device));
      break;
  }
}

/** Whether the operation takes something away: then "not found" is what was wanted. */
export function isDeletion(operation: Operation): boolean {
  return operation.op.startsWith('delete');
}

/** The operation in words, for error messages. */
export function describeOperation(operation: Operation): string {
  switch (operation.op) {
    case 'addRoute':
    case 'replaceRoute':
    case 'appendRoute':
    case 'deleteRoute':
      return `${words(operation.op)} ${describeRoute(operation.route)}`;
    case 'addAddress':
    case 'replaceAddress':
    case 'deleteAddress':
      return `${words(operation.op)} ${operation.address.address} dev ${operation.address.device}`;
    case 'replaceNeighbour':
    case 'deleteNeighbour':
      return `${words(operation.op)} ${operation.neighbour.address} dev ${operation.neighbour.device}`;
    case 'replaceFdb':
    case 'appendFdb':
    case 'deleteFdb':
      return `${words(operation.op)} ${operation.fdb.mac} dst ${operation.fdb.destination} dev ${operation.fdb.device}`;
    case 'addRule':
    case 'deleteRule':
      return `${words(operation.op)} IPv${operation.rule.family} priority ${operation.rule.priority ?? 'any'}`;
    case 'setLink':
      return `set link ${operation.device} ${JSON.stringify(operation.changes, hideNamespace)}`;
    case 'deleteLink':
      return `delete link ${operation.device}`;
  }
}

function describeRoute(route: RouteSpec): string {
  const part = (name: string, value: string | number | undefined): string =>
    value === undefined ? '' : ` ${name} ${value}`;
  return (
    (route.type === undefined ? '' : `${route.type} `) +
    route.destination +
    part('via', route.via) +
    part('dev', route.device) +
    part('table', route.table) +
    part('metric', route.metric)
  );
}

/** "replaceRoute" -> "replace route" */
function words(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function hideNamespace(key: string, value: unknown): unknown {
  return key === 'netns' ? 'other' : value;
}

/** Builds the failure of an operation that did not even reach the kernel, because its device is absent. */
export function failureOf(operation: Operation, error: unknown): OperationFailure {
  if (!(error instanceof KernelError)) throw error;
  return { operation, error: new KernelError(describeOperation(operation), error.errno, error.message) };
}
