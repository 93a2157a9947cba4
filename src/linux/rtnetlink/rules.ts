/** Policy routing rules: struct fib_rule_hdr (linux/fib_rules.h). Pure. */
import type { Family } from '../../base/ip.ts';
import { Attributes } from '../netlink/reader.ts';
import { type MessageWriter, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from '../netlink/writer.ts';
import { afOf, familyOfAf, NameTable, parsePrefixed, RTM } from './protocol.ts';
import { ROUTE_PROTOCOL_PODWIRE } from './routes.ts';

const FRA = {
  destination: 1,
  source: 2,
  inputDevice: 3,
  priority: 6,
  mark: 10,
  suppressPrefixLength: 14,
  table: 15,
  markMask: 16,
  outputDevice: 17,
  protocol: 21,
} as const;

/** What a matching rule does; `table` looks the route up in one. */
const actions = new NameTable({ table: 1, blackhole: 6, unreachable: 7, prohibit: 8 });
export type RuleAction = 'table' | 'blackhole' | 'unreachable' | 'prohibit';

/** The header's flag for "everything but". */
const FIB_RULE_INVERT = 2;

export interface RuleSpec {
  readonly family: Family;
  /** The lower is asked first; the kernel picks one when absent. */
  readonly priority?: number;
  readonly source?: string;
  readonly destination?: string;
  /** Names, because a rule may be older than its device. */
  readonly inputDevice?: string;
  readonly outputDevice?: string;
  readonly mark?: number;
  readonly markMask?: number;
  /** Default `table`. */
  readonly action?: RuleAction;
  readonly table?: number;
  /** Ignore results whose prefix is this long or shorter (0 = no default routes). */
  readonly suppressPrefixLength?: number;
  readonly invert?: boolean;
  /** Who made it; default podwire's number. */
  readonly protocol?: number;
}

export interface Rule {
  readonly family: Family;
  readonly priority: number;
  readonly source: string | undefined;
  readonly destination: string | undefined;
  readonly inputDevice: string | undefined;
  readonly outputDevice: string | undefined;
  readonly mark: number | undefined;
  readonly markMask: number | undefined;
  readonly action: RuleAction | number;
  readonly table: number;
  readonly suppressPrefixLength: number | undefined;
  readonly invert: boolean;
  readonly protocol: number;
}

export function encodeNewRule(w: MessageWriter, spec: RuleSpec): void {
  w.message(RTM.newRule, NLM_F_CREATE | NLM_F_EXCL);
  writeRule(w, spec);
}

export function encodeDeleteRule(w: MessageWriter, spec: RuleSpec): void {
  w.message(RTM.delRule);
  writeRule(w, spec);
}

function writeRule(w: MessageWriter, spec: RuleSpec): void {
  const source = spec.source === undefined ? undefined : parsePrefixed(spec.source);
  const destination = spec.destination === undefined ? undefined : parsePrefixed(spec.destination);
  const table = spec.table ?? 0;
  // struct fib_rule_hdr: family, prefix lengths, tos, table, two reserved, action, flags
  w.u8(afOf(spec.family))
    .u8(destination?.prefix ?? 0)
    .u8(source?.prefix ?? 0)
    .u8(0);
  w.u8(table < 256 ? table : 0).zeros(2);
  w.u8(actions.number(spec.action ?? 'table')).u32(spec.invert ? FIB_RULE_INVERT : 0);
  if (destination) w.attrIp(FRA.destination, destination.address);
  if (source) w.attrIp(FRA.source, source.address);
  if (spec.inputDevice !== undefined) w.attrString(FRA.inputDevice, spec.inputDevice);
  if (spec.outputDevice !== undefined) w.attrString(FRA.outputDevice, spec.outputDevice);
  if (spec.priority !== undefined) w.attrU32(FRA.priority, spec.priority);
  if (spec.mark !== undefined) w.attrU32(FRA.mark, spec.mark);
  if (spec.markMask !== undefined) w.attrU32(FRA.markMask, spec.markMask);
  if (spec.table !== undefined) w.attrU32(FRA.table, spec.table);
  if (spec.suppressPrefixLength !== undefined) w.attrU32(FRA.suppressPrefixLength, spec.suppressPrefixLength);
  w.attrU8(FRA.protocol, spec.protocol ?? ROUTE_PROTOCOL_PODWIRE);
}

export function encodeDumpRules(w: MessageWriter, family: Family | undefined): void {
  w.message(RTM.getRule, NLM_F_DUMP);
  w.u8(afOf(family)).zeros(11);
}

/** Decodes the payload of RTM_NEWRULE or RTM_DELRULE. */
export function decodeRule(payload: Buffer): Rule | undefined {
  if (payload.length < 12) return undefined;
  const family = familyOfAf(payload.readUInt8(0));
  if (family === undefined) return undefined;
  const attributes = new Attributes(payload, 12);
  const withPrefix = (type: number, prefix: number): string | undefined => {
    const address = attributes.ip(type);
    return address === undefined ? undefined : `${address}/${prefix}`;
  };
  const action = payload.readUInt8(7);
  const suppress = attributes.u32(FRA.suppressPrefixLength);
  return {
    family,
    priority: attributes.u32(FRA.priority) ?? 0,
    destination: withPrefix(FRA.destination, payload.readUInt8(1)),
    source: withPrefix(FRA.source, payload.readUInt8(2)),
    inputDevice: attributes.string(FRA.inputDevice),
    outputDevice: attributes.string(FRA.outputDevice),
    mark: attributes.u32(FRA.mark),
    markMask: attributes.u32(FRA.markMask),
    action: actions.name(action) ?? action,
    table: attributes.u32(FRA.table) ?? payload.readUInt8(4),
    // The kernel writes "none" as -1.
    suppressPrefixLength: suppress === 0xffffffff ? undefined : suppress,
    invert: (payload.readUInt32LE(8) & FIB_RULE_INVERT) !== 0,
    protocol: attributes.u8(FRA.protocol) ?? 0,
  };
}
