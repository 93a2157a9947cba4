/** A pod's reservation in the words of those who are told of its interface: hooks and the container runtime. Pure. */
import { familyOf, type IpAddress } from '../../base/ip.ts';
import type { AttachedPod } from './hook.ts';
import { GATEWAYS, HOST_MAC, hostPrefix, type LinkOwner, podMac } from './pod-link.ts';
import type { AddResult } from './protocol.ts';

export interface PodReservation extends LinkOwner {
  readonly addresses: readonly IpAddress[];
}

/** A pod as hooks are told of it. */
export function attachedPod(reservation: PodReservation, hostInterface: string): AttachedPod {
  const { podNamespace, podName, podUid, addresses } = reservation;
  return { namespace: podNamespace, name: podName, uid: podUid, ips: addresses, hostInterface };
}

/** What the runtime is told of a pod's network. */
export function addResult(reservation: PodReservation, sandbox: string, hostInterface: string, mtu: number): AddResult {
  const { ifname, addresses } = reservation;
  const families = addresses.map(familyOf);
  return {
    interfaces: [
      { name: hostInterface, mac: HOST_MAC, mtu },
      { name: ifname, mac: podMac(addresses), mtu, sandbox },
    ],
    ips: addresses.map((address) => {
      return { address: hostPrefix(address), gateway: GATEWAYS[familyOf(address)], interface: 1 };
    }),
    routes: families.map((family) => ({ dst: family === 4 ? '0.0.0.0/0' : '::/0', gw: GATEWAYS[family] })),
    dns: {},
  };
}
