/** CHECK: compares a pod's interface with what ADD makes of its reservation, on both ends. */
import { familyOf } from '../../base/ip.ts';
import type { NetworkNamespace } from '../../linux/netns.ts';
import { type Link, Rtnetlink } from '../../linux/rtnetlink.ts';
import {
  defaultRouteOf,
  GATEWAYS,
  HOST_MAC,
  hostInterfaceName,
  hostPrefix,
  POD_ROUTE_PROTOCOL,
  type PodLink,
  podMac,
} from './pod-link.ts';
import { CniError, CniErrorCode } from './protocol.ts';

interface Attachment {
  readonly containerId: string;
  readonly ifname: string;
}

/**
 * Throws a CniError that names the first difference. `expectedAddresses` ("10.244.1.7/32", from prevResult) must all be
 * the reservation's.
 */
export function checkPodLink(
  rtnl: Rtnetlink,
  netns: NetworkNamespace,
  attachment: Attachment,
  reservation: PodLink | undefined,
  expectedAddresses: readonly string[],
): void {
  if (!reservation) {
    const text = `no address is reserved for ${attachment.ifname} of container ${attachment.containerId}`;
    throw new CniError(CniErrorCode.containerUnknown, text);
  }
  const held = new Set(reservation.addresses.map(hostPrefix));
  const foreign = expectedAddresses.find((address) => !held.has(address));
  expect(foreign === undefined, `the address ${foreign} is not reserved for this container`);
  checkHostSide(rtnl, reservation);
  using podRtnl = Rtnetlink.open(netns);
  checkPodSide(podRtnl, reservation);
}

function checkHostSide(rtnl: Rtnetlink, reservation: PodLink): void {
  const name = hostInterfaceName(reservation.containerId, reservation.ifname);
  const link = requireUp(rtnl.link(name), name);
  checkNeighbours(
    rtnl,
    link,
    new Map(reservation.addresses.map((address) => [address, podMac(reservation.addresses)])),
  );
  const routes = rtnl.routes({ protocol: POD_ROUTE_PROTOCOL, device: link.ifindex });
  for (const address of reservation.addresses) {
    const isThere = routes.some(({ destination }) => destination === hostPrefix(address));
    expect(isThere, `the node has no route to ${address} on ${name}`);
  }
}

function checkPodSide(rtnl: Rtnetlink, reservation: PodLink): void {
  const { ifname, addresses } = reservation;
  const link = requireUp(rtnl.link(ifname), ifname);
  expect(link.mac === podMac(addresses), `${ifname} has another MAC address: ${link.mac}`);
  requireUp(rtnl.link('lo'), 'lo');
  const present = rtnl.addresses({ device: link.ifindex }).map(({ address, prefix }) => `${address}/${prefix}`);
  const missing = addresses.map(hostPrefix).find((address) => !present.includes(address));
  expect(missing === undefined, `${ifname} has lost its address ${missing}`);
  const families = addresses.map(familyOf);
  checkNeighbours(rtnl, link, new Map(families.map((family) => [GATEWAYS[family], HOST_MAC])));
  for (const family of families) {
    const routes = rtnl.routes({ family, device: link.ifindex });
    const isThere = routes.some(
      ({ destination, via }) => destination === defaultRouteOf(family) && via === GATEWAYS[family],
    );
    expect(isThere, `the pod has no default route via ${GATEWAYS[family]}`);
  }
}

function requireUp(link: Link | undefined, name: string): Link {
  if (!link) throw new CniError(CniErrorCode.checkFailed, `there is no interface ${name}`);
  expect(link.up, `${name} is down`);
  return link;
}

function checkNeighbours(rtnl: Rtnetlink, link: Link, expected: ReadonlyMap<string, string>): void {
  const present = rtnl.neighbours({ device: link.ifindex });
  for (const [address, mac] of expected) {
    const isThere = present.some(
      (entry) => entry.address === address && entry.mac === mac && entry.state === 'permanent',
    );
    expect(isThere, `${link.name} has no neighbour entry for ${address}`);
  }
}

function expect(condition: boolean, problem: string): asserts condition {
  if (!condition) throw new CniError(CniErrorCode.checkFailed, problem);
}
