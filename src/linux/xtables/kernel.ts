/**
 * Which iptables a kernel has. Its programs come in two kinds: `iptables-legacy` works on tables of the kernel's own
 * (ip_tables), `iptables-nft` writes nftables rules that contain iptables' matches and targets (nft_compat). The questions below
 * are the ones that the programs themselves ask; the kernel loads modules for them where it has them.
 */
import type { Family } from '../../base/ip.ts';
import { AF_INET, AF_INET6, check, libc, SOCK_CLOEXEC, SOCK_RAW } from '../libc.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from '../netlink/socket.ts';
import { MessageWriter } from '../netlink/writer.ts';
import { type NetworkNamespace, runIn } from '../netns.ts';

export type XtablesKind = 'legacy' | 'nft';

// linux/netfilter_ipv4/ip_tables.h; the numbers of ip6_tables.h are the same but for the last
const SO_GET_INFO = 64;
const SO_GET_REVISION_MATCH = { [AF_INET]: 66, [AF_INET6]: 68 } as const;
const SO_GET_REVISION_TARGET = { [AF_INET]: 67, [AF_INET6]: 69 } as const;
/** sizeof(struct ipt_getinfo): name[32], valid_hooks, hook_entry[5], underflow[5], num_entries, size. */
const GET_INFO_SIZE = 84;
const TABLE_BYTES_AT = 80;
/** sizeof(struct xt_get_revision): name[29], revision. */
const GET_REVISION_SIZE = 30;
const REVISION_AT = 29;
const IPPROTO_RAW = 255;
const LEVELS = { [AF_INET]: 0, [AF_INET6]: 41 } as const;

// linux/netfilter/nfnetlink.h, nf_tables_compat.h
const NFNL_SUBSYS_NFT_COMPAT = 11 << 8;
const NFTA_COMPAT = { name: 1, revision: 2, type: 3 } as const;

/** The extensions that Services are made of: name and the revision that iptables 1.8 asks for. */
const MATCHES: readonly Extension[] = [
  ['statistic', 0],
  ['recent', 0],
  ['comment', 0],
  ['mark', 1],
  ['conntrack', 3],
  ['addrtype', 1],
  ['tcp', 0],
  ['udp', 0],
];
const TARGETS: readonly Extension[] = [['MARK', 2]];

type Extension = readonly [name: string, revision: number];
type AddressFamily = typeof AF_INET | typeof AF_INET6;

/** The kind that works in the namespace, legacy where both do; throws a KernelError that says what is missing. */
export function findXtables(ns?: NetworkNamespace): XtablesKind {
  try {
    for (const family of [AF_INET, AF_INET6] as const) askLegacy(family, ns);
    return 'legacy';
  } catch (error) {
    try {
      askCompat(ns);
      return 'nft';
    } catch {
      throw error;
    }
  }
}

function askLegacy(family: AddressFamily, ns: NetworkNamespace | undefined): void {
  withQuestions(family, ns, (ask) => {
    const extension = (kind: string, option: number, [name, revision]: Extension): void => {
      const bytes = named(GET_REVISION_SIZE, name);
      bytes.writeUInt8(revision, REVISION_AT);
      ask(`iptables ${kind} ${name}`, option, bytes);
    };
    for (const table of ['nat', 'filter', 'mangle', 'raw'])
      ask(`iptables table ${table}`, SO_GET_INFO, named(GET_INFO_SIZE, table));
    for (const match of MATCHES) extension('match', SO_GET_REVISION_MATCH[family], match);
    for (const target of TARGETS) extension('target', SO_GET_REVISION_TARGET[family], target);
  });
}

/** The bytes that the rules of a legacy table take in the kernel. */
export function legacyTableSize(family: Family, table: string, ns?: NetworkNamespace): number {
  const info = named(GET_INFO_SIZE, table);
  withQuestions(family === 4 ? AF_INET : AF_INET6, ns, (ask) => ask(`iptables table ${table}`, SO_GET_INFO, info));
  return info.readUInt32LE(TABLE_BYTES_AT);
}

type Ask = (what: string, option: number, value: Buffer) => void;

function withQuestions(family: AddressFamily, ns: NetworkNamespace | undefined, work: (ask: Ask) => void): void {
  const fd = runIn(ns, () => check('open a raw socket', libc.socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)));
  try {
    work((what, option, value) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(value.length);
      check(`ask for ${what}`, libc.getsockopt(fd, LEVELS[family], option, value, length));
    });
  } finally {
    libc.close(fd);
  }
}

function named(size: number, name: string): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.write(name, 'latin1');
  return bytes;
}

function askCompat(ns: NetworkNamespace | undefined): void {
  using socket = NetlinkSocket.open(NETLINK_NETFILTER, ns);
  const ask = (type: 0 | 1, [name, revision]: Extension): void => {
    const writer = new MessageWriter().message(NFNL_SUBSYS_NFT_COMPAT).u8(AF_INET).u8(0).u16(0);
    writer.attrString(NFTA_COMPAT.name, name).attrBe32(NFTA_COMPAT.revision, revision).attrBe32(NFTA_COMPAT.type, type);
    socket.request(writer, `find ${name} for iptables-nft`);
  };
  for (const match of MATCHES) ask(0, match);
  for (const target of TARGETS) ask(1, target);
}
