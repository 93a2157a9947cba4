/**
 * Which nodes there are and what each one holds: Node objects -> the flat network's model. Pure.
 *
 * A node that cannot be routed to (no podCIDR yet, no address, text that is none, a podCIDR that another node has) is
 * left out with a reason; it never keeps the others from being routed.
 */

import { messageOf } from '../../base/errors.ts';
import {
  type Cidr,
  cidrsOverlap,
  type Family,
  familyOf,
  formatCidr,
  type IpAddress,
  parseCidrStrict,
  parseIp,
} from '../../base/ip.ts';
import { internalAddresses } from '../../kube/node-addresses.ts';
import type { Node } from '../../kube/types.ts';

/** vxlan: one tunnel device, works over any network. host-gw: plain routes, for nodes on one segment. */
export type RouteMode = 'vxlan' | 'host-gw';

export interface RoutedNode {
  readonly name: string;
  /** In the order of spec.podCIDRs: the first one is the node's identity (its tunnel MAC). */
  readonly podCidrs: readonly Cidr[];
  /** At most one per family, the first of each. */
  readonly addresses: readonly IpAddress[];
}

export interface SkippedNode {
  readonly name: string;
  readonly reason: string;
}

export interface RoutesModel {
  readonly mode: RouteMode;
  readonly self: RoutedNode;
  /** The family that tunnel packets travel in: that of the own first address. */
  readonly underlay: Family;
  /** Sorted by name. */
  readonly peers: readonly RoutedNode[];
  readonly skipped: readonly SkippedNode[];
}

/** The model, or why there is none yet: the own node must be known, with a podCIDR and an address. */
export function buildModel(
  nodes: Iterable<Node>,
  ownName: string,
  mode: RouteMode,
): RoutesModel | { readonly waitingFor: string } {
  const all = [...nodes];
  const own = all.find((node) => node.metadata.name === ownName);
  if (!own) return { waitingFor: `the Node ${ownName} does not exist` };
  const self = routedNode(own);
  if ('reason' in self) return { waitingFor: `the Node ${ownName} ${self.reason}` };
  const underlay = familyOf(self.addresses[0]!);
  const peers: RoutedNode[] = [];
  const skipped: SkippedNode[] = [];
  for (const node of all.filter((other) => other !== own).sort(oldestFirst)) {
    const peer = routedNode(node);
    const reason = 'reason' in peer ? peer.reason : obstacle(peer, [self, ...peers], underlay, mode);
    if (reason !== undefined) skipped.push({ name: node.metadata.name, reason });
    else if (!('reason' in peer)) peers.push(peer);
  }
  const byName = (a: { readonly name: string }, b: { readonly name: string }) => (a.name < b.name ? -1 : 1);
  return { mode, self, underlay, peers: peers.sort(byName), skipped: skipped.sort(byName) };
}

/** Of two nodes that claim one podCIDR the older keeps it. */
function oldestFirst(a: Node, b: Node): number {
  const age = (a.metadata.creationTimestamp ?? '').localeCompare(b.metadata.creationTimestamp ?? '');
  return age || (a.metadata.name < b.metadata.name ? -1 : 1);
}

function routedNode(node: Node): RoutedNode | { readonly reason: string } {
  const texts = node.spec.podCIDRs ?? (node.spec.podCIDR === undefined ? [] : [node.spec.podCIDR]);
  if (texts.length === 0) return { reason: 'has no podCIDR' };
  try {
    const podCidrs = texts.map(parseCidrStrict);
    if (new Set(podCidrs.map(({ family }) => family)).size !== podCidrs.length) {
      return { reason: `has more than one podCIDR of a family: ${texts.join(', ')}` };
    }
    const addresses = firstOfEachFamily(internalAddresses(node).map(parseIp));
    return addresses.length > 0 ? { name: node.metadata.name, podCidrs, addresses } : { reason: 'has no InternalIP' };
  } catch (error) {
    return { reason: `has ${messageOf(error)}` };
  }
}

function firstOfEachFamily(addresses: readonly IpAddress[]): readonly IpAddress[] {
  return addresses.filter((one, i) => addresses.findIndex((other) => familyOf(other) === familyOf(one)) === i);
}

/** Why a node cannot be routed to; undefined when it can. */
function obstacle(
  peer: RoutedNode,
  others: readonly RoutedNode[],
  underlay: Family,
  mode: RouteMode,
): string | undefined {
  for (const other of others) {
    const taken = peer.podCidrs.find((cidr) => other.podCidrs.some((held) => cidrsOverlap(cidr, held)));
    if (taken) return `claims ${formatCidr(taken)}, which overlaps with ${other.name}`;
    const shared = peer.addresses.find((address) => other.addresses.includes(address));
    if (shared) return `claims the address ${shared} of ${other.name}`;
  }
  if (mode === 'vxlan' && addressOf(peer, underlay) === undefined) return `has no IPv${underlay} InternalIP`;
  const unreachable = mode === 'host-gw' && peer.podCidrs.find(({ family }) => gatewayOf(peer, family) === undefined);
  return unreachable ? `has no InternalIP that ${formatCidr(unreachable)} can be routed through` : undefined;
}

export function addressOf(node: RoutedNode, family: Family): IpAddress | undefined {
  return node.addresses.find((address) => familyOf(address) === family);
}

/** The next hop of a plain route: IPv4 may go through an IPv6 neighbour (RFC 5549), not the other way round. */
export function gatewayOf(node: RoutedNode, family: Family): IpAddress | undefined {
  return addressOf(node, family) ?? (family === 4 ? addressOf(node, 6) : undefined);
}
