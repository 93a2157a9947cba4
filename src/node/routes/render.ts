/**
 * The model as kernel objects, sorted: equal models give equal objects. Pure.
 *
 * VXLAN, laid out as Flannel does it, so that nothing is ever learned or asked for on the wire:
 *
 *   10.244.2.0/24 via 10.244.2.0 dev podwire.1 onlink      one route per remote podCIDR
 *   10.244.2.0 lladdr 0e:57:0a:f4:02:00 dev podwire.1      its next hop, as a permanent neighbour
 *   0e:57:0a:f4:02:00 dst 172.18.0.4 dev podwire.1         where frames for that MAC are sent
 *
 * The MAC is computed from the node's first podCIDR, so every node knows all of them without an exchange.
 */
import { createHash } from 'node:crypto';
import { type Cidr, type Family, familyOf, formatCidr, type IpAddress, ipToBytes } from '../../base/ip.ts';
import { addressOf, gatewayOf, type RoutedNode, type RoutesModel } from './model.ts';

export const VXLAN_DEVICE = 'podwire.1';
export const DEFAULT_VNI = 1;
/** Linux' own default and Flannel's, not the standard's 4789 (RFC 7348). */
export const DEFAULT_VXLAN_PORT = 8472;

/**
 * What a tunnel adds to a packet, bytes: inner Ethernet 14 + VXLAN 8 + UDP 8, and the outer IP header of 20 or 40
 * (RFC 7348 section 5).
 */
export const VXLAN_OVERHEAD: Readonly<Record<Family, number>> = { 4: 50, 6: 70 };

/** The interface that connects the nodes, as found in the kernel. */
export interface Underlay {
  readonly ifindex: number;
  readonly mtu: number;
  /** Whether the own address is on an interface of this node: then tunnel packets can be sent from it. */
  readonly hasOwnAddress: boolean;
}

export interface VxlanSettings {
  readonly vni: number;
  readonly port: number;
}

export interface VxlanDevice extends VxlanSettings {
  readonly name: string;
  readonly mac: string;
  readonly mtu: number;
  readonly local: IpAddress | undefined;
  /** ifindex of the underlay's interface. */
  readonly lower: number;
}

export interface DesiredRoute {
  readonly destination: string;
  /** Absent for an unreachable one. */
  readonly via?: IpAddress;
  readonly type: 'unicast' | 'unreachable';
  /** Through the tunnel device; else the kernel finds the interface. */
  readonly overVxlan: boolean;
}

export interface DesiredState {
  readonly podMtu: number;
  /** Absent in host-gw mode. */
  readonly device: VxlanDevice | undefined;
  /** Of the tunnel device, with prefix. */
  readonly addresses: readonly string[];
  readonly neighbours: readonly { readonly address: IpAddress; readonly mac: string }[];
  readonly fdb: readonly { readonly mac: string; readonly destination: IpAddress }[];
  readonly routes: readonly DesiredRoute[];
}

/** The MAC of a node's tunnel device: 0e:57 and the podCIDR's IPv4 address; for IPv6, 0e and five bytes of a hash. */
export function tunnelMac({ podCidrs: [first] }: RoutedNode): string {
  const bytes =
    first!.family === 4
      ? Buffer.from([0x0e, 0x57, ...ipToBytes(first!.address)])
      : Buffer.from([0x0e, ...createHash('sha256').update(formatCidr(first!)).digest().subarray(0, 5)]);
  return bytes.toString('hex').replace(/..(?=.)/g, '$&:');
}

export function renderState(model: RoutesModel, underlay: Underlay, settings: VxlanSettings): DesiredState {
  const isVxlan = model.mode === 'vxlan';
  const podMtu = isVxlan ? underlay.mtu - VXLAN_OVERHEAD[model.underlay] : underlay.mtu;
  const { self, peers } = model;
  return {
    podMtu,
    device: isVxlan ? vxlanDevice(model, underlay, settings, podMtu) : undefined,
    addresses: isVxlan ? self.podCidrs.map(nodeAddress).sort() : [],
    neighbours: isVxlan ? peers.flatMap(neighboursOf).sort(by('address')) : [],
    fdb: isVxlan ? peers.map((peer) => fdbEntry(peer, model.underlay)).sort(by('mac')) : [],
    routes: [...self.podCidrs.map(ownRoute), ...peers.flatMap((peer) => routesTo(peer, isVxlan))].sort(
      by('destination'),
    ),
  };
}

function vxlanDevice(model: RoutesModel, underlay: Underlay, settings: VxlanSettings, mtu: number): VxlanDevice {
  const { vni, port } = settings;
  const local = underlay.hasOwnAddress ? addressOf(model.self, model.underlay) : undefined;
  return { name: VXLAN_DEVICE, vni, port, mac: tunnelMac(model.self), mtu, local, lower: underlay.ifindex };
}

/** The node's own address towards other nodes' pods: the podCIDR's network address, which no pod gets. */
function nodeAddress({ address }: Cidr): string {
  return `${address}/${familyOf(address) === 4 ? 32 : 128}`;
}

function neighboursOf(peer: RoutedNode) {
  const mac = tunnelMac(peer);
  return peer.podCidrs.map(({ address }) => ({ address, mac }));
}

function fdbEntry(peer: RoutedNode, underlay: Family) {
  return { mac: tunnelMac(peer), destination: addressOf(peer, underlay)! };
}

/** Without it a packet for a pod that is gone would follow the default route out of the node, or loop. */
function ownRoute(cidr: Cidr): DesiredRoute {
  return { destination: formatCidr(cidr), type: 'unreachable', overVxlan: false };
}

function routesTo(peer: RoutedNode, overVxlan: boolean): DesiredRoute[] {
  return peer.podCidrs.map((cidr) => {
    const via = overVxlan ? cidr.address : gatewayOf(peer, cidr.family)!;
    return { destination: formatCidr(cidr), via, type: 'unicast', overVxlan };
  });
}

function by<K extends string>(key: K) {
  return (a: Readonly<Record<K, string>>, b: Readonly<Record<K, string>>) =>
    a[key] < b[key] ? -1 : Number(a[key] > b[key]);
}
