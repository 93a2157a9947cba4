/** One link of the node on which addresses are announced: its sockets for ARP, NDP and beats. */
import type { IpAddress } from '../../../base/ip.ts';
import { Ipv6Groups } from '../../../linux/ipv6-groups.ts';
import type { NetworkNamespace } from '../../../linux/netns.ts';
import { PacketSocket } from '../../../linux/packet-socket.ts';
import { Rtnetlink } from '../../../linux/rtnetlink.ts';
import { ARP_PROTOCOL, type ArpPacket, arpAnnouncements, arpQuestion, arpReply, decodeArp } from './arp.ts';
import { BEAT_MAC, BEAT_PROTOCOL, type Beat, decodeBeat, encodeBeat, type HeardBeat } from './beat.ts';
import {
  decodeNeighbourMessage,
  IPV6_PROTOCOL,
  NDP_FILTER,
  type NeighbourMessage,
  neighbourAnnouncement,
  neighbourQuestion,
  neighbourReply,
  solicitedNodeGroup,
} from './ndp.ts';

/** What arrives on the link. */
export interface LinkEvents {
  onArp(packet: ArpPacket): void;
  onNeighbour(message: NeighbourMessage): void;
  onBeat(beat: HeardBeat): void;
  /** The link is down or gone: the sockets must be opened anew. */
  onError(error: Error): void;
}

/** What the announcer does with a link; every method throws a KernelError when the link is down or gone. */
export interface Link {
  readonly mac: string;
  sendBeat(beat: Beat): void;
  /** Says to all that the address is here. */
  announce(address: IpAddress): void;
  /** Says that the target is at a MAC: this link's, or that of another node. */
  answerArp(request: ArpPacket, mac: string): void;
  answerNeighbour(solicitation: NeighbourMessage, mac: string): void;
  /** Asks the kernel at a MAC for an address that it has, from one that this link has; the answer comes as an event. */
  ask(address: IpAddress, mac: string, from: IpAddress): void;
  /** Lets solicitations for an IPv6 address in, or no longer. */
  listenFor(address: IpAddress, how: 'join' | 'leave'): void;
  close(): void;
}

export interface OpenLinkOptions {
  /** Where; default the current namespace. */
  readonly ns?: NetworkNamespace | undefined;
  /** The link is the one that has this address. */
  readonly address: string;
  readonly events: LinkEvents;
}

/** Throws when no link has the address. */
export function openLink({ ns, address, events }: OpenLinkOptions): Link {
  const { ifindex, mac } = findLink(ns, address);
  using opened = new DisposableStack();
  const open = (protocol: number, filter?: typeof NDP_FILTER) =>
    opened.use(PacketSocket.open({ ifindex, protocol, ...(ns ? { ns } : {}), ...(filter ? { filter } : {}) }));
  const arp = open(ARP_PROTOCOL);
  const ndp = open(IPV6_PROTOCOL, NDP_FILTER);
  const beats = open(BEAT_PROTOCOL);
  const groups = opened.use(Ipv6Groups.open({ ns, ifindex }));
  beats.joinMulticast(BEAT_MAC);
  arp.receive(given(decodeArp, events.onArp), events.onError);
  ndp.receive(given(decodeNeighbourMessage, events.onNeighbour), events.onError);
  beats.receive(given(decodeBeat, events.onBeat), events.onError);
  const sockets = opened.move();
  return {
    mac,
    sendBeat: (beat) => beats.send(encodeBeat(beat, mac)),
    announce(text) {
      if (text.includes(':')) ndp.send(neighbourAnnouncement(text, mac));
      else for (const frame of arpAnnouncements(text, mac)) arp.send(frame);
    },
    answerArp: (request, at) => arp.send(arpReply(request, at, mac)),
    answerNeighbour: (solicitation, at) => ndp.send(neighbourReply(solicitation, at, mac)),
    ask(address, at, from) {
      if (address.includes(':')) ndp.send(neighbourQuestion(address, at, from, mac));
      else arp.send(arpQuestion(address, at, from, mac));
    },
    listenFor: (text, how) => groups[how](solicitedNodeGroup(text)),
    close: () => sockets.dispose(),
  };
}

/** Hands on what can be decoded. */
function given<T>(decode: (frame: Buffer) => T | undefined, handle: (value: T) => void): (frame: Buffer) => void {
  return (frame) => {
    const value = decode(frame);
    if (value !== undefined) handle(value);
  };
}

function findLink(ns: NetworkNamespace | undefined, address: string): { ifindex: number; mac: string } {
  using netlink = Rtnetlink.open(ns);
  const found = netlink.addresses().find((one) => one.address === address);
  const mac = found && netlink.link(found.ifindex)?.mac;
  if (!found || !mac) throw new Error(`no Ethernet link of this node has the address ${address}`);
  return { ifindex: found.ifindex, mac };
}
