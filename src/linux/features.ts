/**
 * What this kernel can do, found by trying it in a namespace that is thrown away: /proc/config.gz may be absent, and a
 * module that is built may not be installed. The kernel loads modules by itself where it has them.
 *
 * Takes 60-130 ms (an nft context and a few links); ask once per process.
 */
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { messageOf } from '../base/errors.ts';
import { requireSocketPrograms } from './bpf/attach.ts';
import { cgroup2Root } from './cgroup.ts';
import { encodeGetStats } from './conntrack/codec.ts';
import { hasCode, isExists, KernelError } from './errors.ts';
import { AF_INET, check, libc, SOCK_CLOEXEC, SOCK_STREAM } from './libc.ts';
import { genericFamilyId } from './netlink/generic.ts';
import { NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from './netlink/socket.ts';
import { MessageWriter, NLM_F_CREATE, NLM_F_EXCL } from './netlink/writer.ts';
import { NetworkNamespace } from './netns.ts';
import { Nftables } from './nftables.ts';
import { Rtnetlink } from './rtnetlink.ts';
import { findXtables } from './xtables/kernel.ts';

export type Feature = { readonly present: true } | { readonly present: false; readonly reason: string };

/** Throws when the feature is absent. */
type Probe = (room: Room) => void;

/** Where the probes work: a namespace of their own with a veth pair in it. */
interface Room {
  readonly ns: NetworkNamespace;
  readonly links: Rtnetlink;
  /** Opened by the probe that needs it first; its failure is every nft probe's failure. */
  readonly nft: () => Nftables;
}

const LINK_NAME = 'probe0';
const IPPROTO_SCTP = 132;
const ETHERNET_DEVICE = 'room0';

const link =
  (kind: string, onDevice?: string): Probe =>
  ({ links }) => {
    try {
      links.createLink({ name: LINK_NAME, kind, device: onDevice });
    } catch (error) {
      // A tunnel like the one that its module makes by itself in every namespace (tunl0, gretap0).
      if (!isExists(error)) throw error;
    }
    links.ensureNoLink(LINK_NAME);
  };

const rule =
  (body: string, hook = 'type filter hook prerouting priority 0'): Probe =>
  ({ nft }) => {
    nft().run(`table inet probe { chain c { ${hook}; ${body}; }; }\ndelete table inet probe`);
  };

const text =
  (commands: string): Probe =>
  ({ nft }) =>
    nft().run(commands);

const DNAT_HOOK = 'type nat hook prerouting priority dstnat';
const SNAT_HOOK = 'type nat hook postrouting priority srcnat';

const PROBES = {
  nftables: text('table ip probe { set s { type ipv4_addr; }; }\ndelete table ip probe'),
  nftNat: rule('ip daddr 192.0.2.1 tcp dport 1 dnat ip to 192.0.2.2:1', DNAT_HOOK),
  nftMasquerade: rule('masquerade', SNAT_HOOK),
  nftNumgen: rule('numgen random mod 2 0 accept'),
  nftJhash: rule('jhash ip saddr mod 2 0 accept'),
  nftFib: rule('fib daddr type local accept'),
  nftReject: rule('reject'),
  nftConntrackZones: rule('ct zone set 1', 'type filter hook prerouting priority -300'),
  nftTproxy: rule('meta l4proto tcp tproxy ip to 127.0.0.1:1', 'type filter hook prerouting priority mangle'),
  nftSynproxy: rule('tcp dport 1 synproxy mss 1460 wscale 7'),
  nftLog: rule('log group 1'),
  flowtables: text(
    `table ip probe { flowtable f { hook ingress priority 0; devices = { ${ETHERNET_DEVICE} }; }; }\ndelete table ip probe`,
  ),
  xtables: ({ ns }) => void findXtables(ns),
  conntrack: ({ ns }) => {
    using socket = NetlinkSocket.open(NETLINK_NETFILTER, ns);
    const writer = new MessageWriter();
    encodeGetStats(writer);
    socket.request(writer, 'ask conntrack');
  },
  ipv6: ({ links }) => links.addAddress({ device: 'lo', address: '2001:db8::1/128', nodad: true }),
  veth: () => {
    // The room has one.
  },
  bridge: link('bridge'),
  vxlan: ({ links }) => {
    links.createVxlan({ name: LINK_NAME, vni: 1, port: 8472 });
    links.ensureNoLink(LINK_NAME);
  },
  dummy: link('dummy'),
  ifb: link('ifb'),
  macvlan: link('macvlan', ETHERNET_DEVICE),
  ipvlan: link('ipvlan', ETHERNET_DEVICE),
  netkit: link('netkit'),
  wireguard: link('wireguard'),
  ipip: link('ipip'),
  gre: link('gretap'),
  vrf: link('vrf'),
  tun: () => closeSync(openSync('/dev/net/tun', 'r+')),
  sctp: ({ ns }) => {
    const fd = ns.run(() =>
      check('open an SCTP socket', libc.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_SCTP)),
    );
    libc.close(fd);
  },
  ip_vs: ({ ns }) => askGenericFamily(ns, 'IPVS'),
  netem: ({ ns, links }) => addQdisc(ns, links, 'netem'),
  fqCodel: ({ ns, links }) => addQdisc(ns, links, 'fq_codel'),
  tbf: ({ ns, links }) => addQdisc(ns, links, 'tbf'),
  htb: ({ ns, links }) => addQdisc(ns, links, 'htb'),
  bpf: () => requireFile('/proc/sys/kernel/unprivileged_bpf_disabled'),
  btf: () => requireFile('/sys/kernel/btf/vmlinux'),
  bpfSockets: requireSocketPrograms,
  cgroup2: () => {
    if (!cgroup2Root()) throw new Error('not mounted');
  },
  overlayfs: () => {
    if (!/\boverlay$/m.test(readFileSync('/proc/filesystems', 'utf8'))) throw new Error('not in /proc/filesystems');
  },
} as const satisfies Record<string, Probe>;

export type FeatureName = keyof typeof PROBES;
export type Features = Readonly<Record<FeatureName, Feature>>;

/** What a user calls it, where the name of the feature does not say it. */
const TITLES: Partial<Record<FeatureName, string>> = {
  nftNat: 'NAT in nftables',
  nftMasquerade: 'masquerading in nftables',
  nftNumgen: 'number generators in nftables',
  nftJhash: 'hashing in nftables',
  nftFib: 'route lookup in nftables',
  nftReject: 'reject in nftables',
  nftConntrackZones: 'conntrack zones in nftables',
  nftTproxy: 'transparent proxying in nftables',
  nftSynproxy: 'SYN proxying in nftables',
  nftLog: 'logging in nftables',
  flowtables: 'nftables flowtables',
  xtables: 'iptables',
  sctp: 'SCTP sockets',
  ip_vs: 'IPVS',
  fqCodel: 'fq_codel queue',
  netem: 'netem queue',
  tbf: 'tbf queue',
  htb: 'htb queue',
  bpfSockets: 'BPF programs at connect',
  cgroup2: 'control groups of version 2',
};

/** Tries everything. Throws only where no namespace can be made at all (EPERM without root). */
export function detectFeatures(): Features {
  using ns = NetworkNamespace.anonymous();
  using links = Rtnetlink.open(ns);
  links.createVeth({ name: ETHERNET_DEVICE, peer: { name: 'room1' } });
  let context: Nftables | undefined;
  const room: Room = {
    ns,
    links,
    nft: () => {
      context ??= Nftables.open(ns);
      return context;
    },
  };
  try {
    const entries = Object.entries(PROBES).map(([name, probe]) => [name, attempt(name as FeatureName, probe, room)]);
    return Object.fromEntries(entries) as Features;
  } finally {
    context?.close();
  }
}

function attempt(name: FeatureName, probe: Probe, room: Room): Feature {
  try {
    probe(room);
    return { present: true };
  } catch (error) {
    return { present: false, reason: `this kernel has no ${TITLES[name] ?? name} (${shortReason(error)})` };
  }
}

/** One line: the code and the first line of what the kernel or nft said. */
function shortReason(error: unknown): string {
  if (!(error instanceof KernelError)) return messageOf(error);
  const words = error.kernelMessage?.split('\n', 1)[0]?.replace(/^.*Error: /, '');
  return words ? `${error.code}: ${words}` : error.code;
}

function requireFile(path: string): void {
  if (!existsSync(path)) throw new Error(`no ${path}`);
}

function askGenericFamily(ns: NetworkNamespace, family: string): void {
  using socket = NetlinkSocket.open(NETLINK_GENERIC, ns);
  genericFamilyId(socket, family);
}

// linux/rtnetlink.h, linux/pkt_sched.h
const RTM_NEWQDISC = 36;
const TC_H_ROOT = 0xffffffff;
const TCA_KIND = 1;

/** Some queues want options and answer EINVAL without them: they exist. Unknown ones answer ENOENT. */
function addQdisc(ns: NetworkNamespace, links: Rtnetlink, kind: string): void {
  using socket = NetlinkSocket.open(NETLINK_ROUTE, ns);
  const writer = new MessageWriter().message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);
  // struct tcmsg: family and padding, ifindex, handle, parent, info
  writer
    .u32(0)
    .u32(links.link('room1')?.ifindex ?? 0)
    .u32(0)
    .u32(TC_H_ROOT)
    .u32(0);
  try {
    socket.request(writer.attrString(TCA_KIND, kind), `add queue ${kind}`);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw error;
  }
}
