/** Notifications of a namespace's links, addresses, routes, neighbours and rules, as they happen. */

import { type Monitor, watchNotifications } from '../netlink/notifications.ts';
import type { NetlinkMessage } from '../netlink/reader.ts';
import { NETLINK_ROUTE, NetlinkSocket } from '../netlink/socket.ts';
import type { NetworkNamespace } from '../netns.ts';
import { decodeAddress, type InterfaceAddress } from './addresses.ts';
import { decodeLink, type Link } from './links.ts';
import { decodeFdb, decodeNeighbour, type FdbEntry, type Neighbour } from './neighbours.ts';
import { RTM, RTNLGRP } from './protocol.ts';
import { decodeTableRoute, type Route } from './routes.ts';
import { decodeRule, type Rule } from './rules.ts';

/** What to be told about. */
export interface MonitorSelection {
  readonly links?: boolean;
  readonly addresses?: boolean;
  readonly routes?: boolean;
  /** IP neighbours and FDB entries. */
  readonly neighbours?: boolean;
  readonly rules?: boolean;
}

export type { Monitor } from '../netlink/notifications.ts';

export type RtnetlinkEvent = { readonly action: 'set' | 'deleted' } & (
  | { readonly kind: 'link'; readonly link: Link }
  | { readonly kind: 'address'; readonly address: InterfaceAddress }
  | { readonly kind: 'route'; readonly route: Route }
  | { readonly kind: 'neighbour'; readonly neighbour: Neighbour }
  | { readonly kind: 'fdb'; readonly entry: FdbEntry }
  | { readonly kind: 'rule'; readonly rule: Rule }
);

/**
 * Reports every change from now on. `onResync` means that the kernel dropped notifications because they were not
 * taken fast enough: read the whole state again.
 */
export function openMonitor(
  ns: NetworkNamespace,
  selection: MonitorSelection,
  onEvent: (event: RtnetlinkEvent) => void,
  onResync: () => void,
): Monitor {
  return watchNotifications(
    NetlinkSocket.openMonitor(NETLINK_ROUTE, groupsOf(selection), ns),
    (message) => {
      const event = decodeEvent(message);
      if (event) onEvent(event);
    },
    onResync,
  );
}

function groupsOf(selection: MonitorSelection): number[] {
  const groups: number[] = [];
  if (selection.links) groups.push(RTNLGRP.link);
  if (selection.addresses) groups.push(RTNLGRP.ipv4Address, RTNLGRP.ipv6Address);
  if (selection.routes) groups.push(RTNLGRP.ipv4Route, RTNLGRP.ipv6Route);
  if (selection.neighbours) groups.push(RTNLGRP.neighbour);
  if (selection.rules) groups.push(RTNLGRP.ipv4Rule, RTNLGRP.ipv6Rule);
  return groups;
}

/** Decodes one notification; undefined for those that tell nothing (bridge port messages, cached routes). */
export function decodeEvent({ type, payload }: NetlinkMessage): RtnetlinkEvent | undefined {
  switch (type) {
    case RTM.newLink:
    case RTM.delLink: {
      // A bridge tells about its ports in messages of family AF_BRIDGE: deleting a port is not deleting the link.
      if (payload.length > 0 && payload.readUInt8(0) !== 0) return undefined;
      const link = decodeLink(payload);
      return link && { kind: 'link', action: type === RTM.newLink ? 'set' : 'deleted', link };
    }
    case RTM.newAddress:
    case RTM.delAddress: {
      const address = decodeAddress(payload);
      return address && { kind: 'address', action: type === RTM.newAddress ? 'set' : 'deleted', address };
    }
    case RTM.newRoute:
    case RTM.delRoute: {
      const route = decodeTableRoute(payload);
      return route && { kind: 'route', action: type === RTM.newRoute ? 'set' : 'deleted', route };
    }
    case RTM.newNeighbour:
    case RTM.delNeighbour:
      return decodeNeighbourEvent(payload, type === RTM.newNeighbour ? 'set' : 'deleted');
    case RTM.newRule:
    case RTM.delRule: {
      const rule = decodeRule(payload);
      return rule && { kind: 'rule', action: type === RTM.newRule ? 'set' : 'deleted', rule };
    }
    default:
      return undefined;
  }
}

function decodeNeighbourEvent(payload: Buffer, action: 'set' | 'deleted'): RtnetlinkEvent | undefined {
  const neighbour = decodeNeighbour(payload);
  if (neighbour) return { kind: 'neighbour', action, neighbour };
  const entry = decodeFdb(payload);
  return entry && { kind: 'fdb', action, entry };
}
