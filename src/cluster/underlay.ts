/**
 * The isolated underlay of a cluster: one network namespace with a bridge, to which every node's namespace and the "outside"
 * namespace (a client that is no node) are wired. Nothing connects it to the machine's own namespace, so no packet of the
 * cluster can leave the machine.
 *
 *     node-1        node-2        node-3        outside
 *     eth0 .2       eth0 .3       eth0 .4       eth0 .200
 *        \_____________\____  ____/_____________/
 *                           br0 .1          namespace "underlay": API server, registry; unreachable beyond
 */
import { cidrAddress, type Family, formatCidr, parseCidr } from '../base/ip.ts';
import { NetworkNamespace } from '../linux/netns.ts';
import { Rtnetlink } from '../linux/rtnetlink.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import type { ClusterPaths } from './paths.ts';

export const UNDERLAY_CIDRS: Readonly<Record<Family, string>> = { 4: '172.18.0.0/16', 6: 'fd00:18::/64' };

const SERVER_OFFSET = 1;
const FIRST_NODE_OFFSET = 2;
const OUTSIDE_OFFSET = 60_000;
const BRIDGE = 'br0';
export const UPLINK_DEVICE = 'eth0';
export const UNDERLAY_NAMESPACE = 'underlay';
export const OUTSIDE_NAMESPACE = 'outside';
/** More nodes than this do not fit between the server's and the outside's address. */
export const MAX_NODES = 250;

const addressesAt = (families: readonly Family[], offset: number) =>
  families.map((family) => cidrAddress(parseCidr(UNDERLAY_CIDRS[family]), offset) as string);

export const serverAddresses = (families: readonly Family[]) => addressesAt(families, SERVER_OFFSET);
export const outsideAddresses = (families: readonly Family[]) => addressesAt(families, OUTSIDE_OFFSET);

/** The addresses of the node with the index, counted from 0. */
export const nodeAddresses = (families: readonly Family[], index: number) =>
  addressesAt(families, FIRST_NODE_OFFSET + index);

/** Makes the underlay's own namespace with its bridge. */
export function createUnderlay(paths: ClusterPaths, families: readonly Family[]): NetworkNamespace {
  const namespace = NetworkNamespace.create(paths.namespace(UNDERLAY_NAMESPACE));
  if (families.includes(6)) useAddressesAtOnce(namespace);
  using netlink = Rtnetlink.open(namespace);
  netlink.createBridge({ name: BRIDGE, up: true, multicastSnooping: false });
  assign(netlink, BRIDGE, serverAddresses(families));
  writeSysctl(namespace, 'net.ipv4.ip_forward', 1);
  if (families.includes(6)) writeSysctl(namespace, 'net.ipv6.conf.all.forwarding', 1);
  // Whoever tries to leave is told at once each time, not once a second.
  writeSysctl(namespace, 'net.ipv4.icmp_ratelimit', 0);
  if (families.includes(6)) writeSysctl(namespace, 'net.ipv6.icmp.ratelimit', 0);
  for (const family of families) {
    netlink.replaceRoute({ destination: family === 4 ? '0.0.0.0/0' : '::/0', type: 'unreachable' });
  }
  return namespace;
}

/** Makes a namespace and wires it to the underlay: the device eth0 with the addresses and a default route. */
export function attachNamespace(
  paths: ClusterPaths,
  underlay: NetworkNamespace,
  name: string,
  addresses: readonly string[],
): NetworkNamespace {
  const namespace = NetworkNamespace.create(paths.namespace(name));
  if (addresses.some((address) => address.includes(':'))) useAddressesAtOnce(namespace);
  using outer = Rtnetlink.open(underlay);
  outer.createVeth({
    name: portName(addresses),
    up: true,
    master: BRIDGE,
    peer: { name: UPLINK_DEVICE, netns: namespace },
  });
  using inner = Rtnetlink.open(namespace);
  assign(inner, UPLINK_DEVICE, addresses);
  inner.setLink(UPLINK_DEVICE, { up: true });
  const families = addresses.map((address): Family => (address.includes(':') ? 6 : 4));
  for (const [i, gateway] of serverAddresses(families).entries()) {
    const destination = families[i] === 4 ? '0.0.0.0/0' : '::/0';
    inner.replaceRoute({ destination, via: gateway, device: UPLINK_DEVICE, protocol: 4 });
  }
  return namespace;
}

/** Pulls the plug of the node or other namespace that has the addresses out of the bridge, or puts it back. */
export function plug(paths: ClusterPaths, addresses: readonly string[], how: 'in' | 'out'): void {
  using underlay = NetworkNamespace.open(paths.namespace(UNDERLAY_NAMESPACE));
  using netlink = Rtnetlink.open(underlay);
  netlink.setLink(portName(addresses), { up: how === 'in' });
}

/**
 * Without duplicate address detection (RFC 4862): for its second or two an IPv6 address, also a link's own fe80:: one,
 * answers nobody, and every address here is given out by podwire alone.
 */
function useAddressesAtOnce(namespace: NetworkNamespace): void {
  for (const scope of ['default', 'all']) writeSysctl(namespace, `net.ipv6.conf.${scope}.accept_dad`, 0);
}

/** Interface names have 15 characters at most: "to-" and the last part of the first address. */
function portName(addresses: readonly string[]): string {
  return `to-${addresses[0]!.split(/[.:]/).slice(-2).join('-')}`;
}

function assign(netlink: Rtnetlink, device: string, addresses: readonly string[]): void {
  for (const address of addresses) {
    const family: Family = address.includes(':') ? 6 : 4;
    const { prefix } = parseCidr(UNDERLAY_CIDRS[family]);
    netlink.addAddress({ device, address: `${address}/${prefix}`, nodad: true });
  }
}

/** The whole underlay as CIDR texts, for people. */
export const underlayCidrs = (families: readonly Family[]) =>
  families.map((family) => formatCidr(parseCidr(UNDERLAY_CIDRS[family])));
