/**
 * A pod's interface as kernel objects. Pure: names, MACs and operations from a reservation.
 *
 *   pod's namespace                         node's namespace
 *   eth0  10.244.1.7/32  ------ veth ------ pw1a2b3c4d5e6  (fe80::1)
 *         default via 169.254.1.1           10.244.1.7 dev pw1a2b3c4d5e6
 *
 * No bridge and no shared segment: every packet is routed, so the node's rules see all of them. Both ends know each
 * other's MAC by permanent entries, so no packet ever waits for ARP or neighbour discovery.
 */
import { createHash } from 'node:crypto';
import { type Family, familyOf, ipToBytes } from '../../base/ip.ts';
import type { Operation } from '../../linux/rtnetlink.ts';

/** All pod interfaces belong to this group (0x7077 is "pw"): found again after a restart, deleted in one go. */
export const POD_LINK_GROUP = 0x7077;
/** Those on their way out. */
export const DYING_LINK_GROUP = 0x7078;
/** Marks the routes to local pods (RTPROT); one above podwire's own, which the routes between nodes have. */
export const POD_ROUTE_PROTOCOL = 113;

/** RTPROT_STATIC: inside a pod the routes are the administrator's, as any plugin's are. */
const STATIC = 4;

/** The gateway that every pod has: link-local, so no address of the podCIDR is spent and all nodes are alike. */
export const GATEWAYS: Readonly<Record<Family, string>> = { 4: '169.254.1.1', 6: 'fe80::1' };
/** The MAC of every host end: each veth is a link of its own, so all may have the same. Locally administered. */
export const HOST_MAC = 'ee:ee:ee:ee:ee:ee';

export const PREFIX: Readonly<Record<Family, 32 | 128>> = { 4: 32, 6: 128 };
const DEFAULT_ROUTE: Readonly<Record<Family, string>> = { 4: '0.0.0.0/0', 6: '::/0' };

/** The part of a reservation that shapes the interface. */
export interface PodLink {
  readonly containerId: string;
  readonly ifname: string;
  readonly addresses: readonly string[];
}

/** The host end's name: "pw" and 44 bits of a hash, 13 of the 15 bytes that a name may have. */
export function hostInterfaceName(containerId: string, ifname: string): string {
  return `pw${createHash('sha256').update(`${containerId}/${ifname}`).digest('hex').slice(0, 11)}`;
}

/** The pod's MAC from its first address, as Kubernetes' own plugins build it: 0a:58, then the last four bytes. */
export function podMac(addresses: readonly string[]): string {
  const bytes = Buffer.from(ipToBytes(addresses[0]!)).subarray(-4);
  return `0a:58:${bytes.toString('hex').replace(/..(?=.)/g, '$&:')}`;
}

/** With its prefix, as a host address. */
export function hostPrefix(address: string): string {
  return `${address}/${PREFIX[familyOf(address)]}`;
}

export const defaultRouteOf = (family: Family): string => DEFAULT_ROUTE[family];

/** What is made inside the pod, in order. `device` is the pod's interface. */
export function podSideOperations(link: PodLink): Operation[] {
  const device = link.ifname;
  const families = link.addresses.map(familyOf);
  return [
    { op: 'setLink', device: 'lo', changes: { up: true } },
    { op: 'setLink', device, changes: { up: true } },
    ...link.addresses.map((address): Operation => {
      return { op: 'addAddress', address: { device, address: hostPrefix(address), nodad: familyOf(address) === 6 } };
    }),
    ...families.map((family): Operation => {
      return { op: 'replaceNeighbour', neighbour: { device, address: GATEWAYS[family], mac: HOST_MAC } };
    }),
    ...families.map((family): Operation => {
      return { op: 'addRoute', route: podDefaultRoute(family, device) };
    }),
  ];
}

function podDefaultRoute(family: Family, device: string) {
  return { destination: DEFAULT_ROUTE[family], via: GATEWAYS[family], device, onlink: true, protocol: STATIC };
}

/** What is set on the host end while it is still down. */
export function hostSidePreparation(link: PodLink, device: number, alias: string): Operation[] {
  return [
    { op: 'setLink', device, changes: { alias, addressGeneration: 'none' } },
    ...link.addresses.map((address): Operation => {
      return { op: 'replaceNeighbour', neighbour: { device, address, mac: podMac(link.addresses) } };
    }),
  ];
}

/**
 * What lets packets pass: the host end comes up and the pod's addresses get their routes. `sources` are the node's own
 * addresses, which the node uses towards its pods. All of it may be repeated.
 */
export function hostSideActivation(link: PodLink, device: number, sources: readonly string[]): Operation[] {
  const families = link.addresses.map(familyOf);
  const gateway: Operation[] = families.includes(6)
    ? [{ op: 'replaceAddress', address: { device, address: `${GATEWAYS[6]}/64`, nodad: true } }]
    : [];
  return [
    { op: 'setLink', device, changes: { up: true } },
    ...gateway,
    ...link.addresses.map((address): Operation => ({ op: 'replaceRoute', route: podRoute(address, device, sources) })),
  ];
}

function podRoute(address: string, device: number, sources: readonly string[]) {
  const family = familyOf(address);
  const source = sources.find((candidate) => familyOf(candidate) === family);
  return {
    destination: hostPrefix(address),
    device,
    protocol: POD_ROUTE_PROTOCOL,
    ...(source === undefined ? {} : { source }),
  };
}

/** The longest alias of a link, bytes (IFALIASZ less its NUL, linux/if.h). */
const MAX_ALIAS = 255;

export interface LinkOwner {
  readonly containerId: string;
  readonly ifname: string;
  readonly podNamespace: string;
  readonly podName: string;
  readonly podUid: string;
}

/**
 * Who an interface belongs to, kept in its alias: people read it in `ip link`, and a lost journal is rebuilt from it.
 * A very long pod name is cut at its end.
 */
export function renderAlias(owner: LinkOwner): string {
  const { containerId, ifname, podUid, podNamespace, podName } = owner;
  const text = `podwire ${containerId} ${ifname} ${podUid || '-'} ${podNamespace}/${podName}`;
  return text.slice(0, MAX_ALIAS);
}

/** The owner that an alias names; undefined when it is none of ours. */
export function parseAlias(alias: string | undefined): LinkOwner | undefined {
  const match = /^podwire (\S+) (\S+) (\S+) ([^/\s]*)\/(\S*)$/.exec(alias ?? '');
  if (!match) return undefined;
  const [, containerId, ifname, uid, podNamespace, podName] = match as unknown as string[];
  return {
    containerId: containerId!,
    ifname: ifname!,
    podUid: uid === '-' ? '' : uid!,
    podNamespace: podNamespace!,
    podName: podName!,
  };
}
