/**
 * Reads from the kernel which pod holds which address: what is left to know when the journal of reservations is lost. A
 * host end's alias names the owner, its permanent neighbours are the pod's addresses.
 */
import type { IpAddress } from '../../base/ip.ts';
import type { Rtnetlink } from '../../linux/rtnetlink.ts';
import { type LinkOwner, POD_LINK_GROUP, parseAlias, podMac } from './pod-link.ts';

export interface AdoptedReservation extends LinkOwner {
  readonly addresses: readonly IpAddress[];
  readonly reservedAt: number;
}

/** For `Ipam.open({ recover })`. `now` is when they count as reserved, milliseconds since the epoch. */
export function reservationsFromKernel(rtnl: Rtnetlink, now: number = Date.now()): AdoptedReservation[] {
  const links = rtnl.links({ kind: 'veth' }).filter(({ group }) => group === POD_LINK_GROUP);
  return links.flatMap((link) => {
    const owner = parseAlias(link.alias);
    const entries = rtnl.neighbours({ device: link.ifindex }).filter(({ state }) => state === 'permanent');
    if (!owner || entries.length === 0) return [];
    // The MAC was made of the first address, so it tells which one that is.
    const isFirst = ({ address, mac }: (typeof entries)[0]) => podMac([address]) === mac;
    const addresses = entries.sort((a, b) => Number(isFirst(b)) - Number(isFirst(a))).map(({ address }) => address);
    return [{ ...owner, addresses, reservedAt: now }];
  });
}
