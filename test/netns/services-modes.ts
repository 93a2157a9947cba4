/** The modes of the proxy as the tests with packets see them: each opens its rules in the lab and says what is right there. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Family } from '../../src/base/ip.ts';
import { silentLogger } from '../../src/base/log.ts';
import type { ProxyMode } from '../../src/cluster/proxy-mode.ts';
import { Ipvs, serviceKeyText } from '../../src/linux/ipvs.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { XTABLES_TABLES, Xtables } from '../../src/linux/xtables.ts';
import { FrontendRules } from '../../src/node/services/frontend-rules.ts';
import { IptablesBackend, iptablesRules } from '../../src/node/services/iptables/reconciler.ts';
import { IpvsBackend, ipvsRules } from '../../src/node/services/ipvs/reconciler.ts';
import { DEVICE } from '../../src/node/services/ipvs/virtual-addresses.ts';
import { canonicalListing, expectedListing, kernelListing } from '../../src/node/services/nftables/listing.ts';
import { nftablesRules, ServicesReconciler } from '../../src/node/services/nftables/reconciler.ts';
import { renderRuleset } from '../../src/node/services/nftables/render.ts';
import type { RulesContext, ServiceRules } from '../../src/node/services/rules.ts';
import { ADDRESSES, type ServicesLab } from './services-lab.ts';

export interface ModeUnderTest {
  readonly name: ProxyMode;
  /** Where destinations are replaced: in packets, or where pods and the node connect. */
  readonly translates: 'packets' | 'sockets';
  /** Makes of the lab what the mode needs. */
  prepare?(lab: ServicesLab): Promise<void>;
  /** Whether a client is forgotten as soon as its timeout is over, also when its last connection was only just closed. */
  readonly forgetsInTime: boolean;
  /** Opens the rules in the lab's node, as an agent does; again for a new agent. */
  open(lab: ServicesLab, context?: Partial<RulesContext>): ServiceRules;
  /** Asserts that the kernel holds what a fresh start with the same frontends would write. */
  assertFresh(lab: ServicesLab, rules: ServiceRules): Promise<void>;
  /** Waits until nothing is kept any more for connections that have ended. */
  drained?(lab: ServicesLab): Promise<void>;
  /** Asserts that nothing of any Service is in the kernel. */
  assertEmpty(lab: ServicesLab): Promise<void>;
}

const FAMILIES: readonly Family[] = [4, 6];

const contextOf = (context: Partial<RulesContext>): RulesContext => ({
  addresses: ADDRESSES,
  log: silentLogger,
  ...context,
});

export const nftablesMode: ModeUnderTest = {
  name: 'nftables',
  translates: 'packets',
  forgetsInTime: true,
  open: (lab, context = {}) => nftablesRules(lab.nft)(contextOf(context)),
  async assertFresh(lab, rules) {
    assert.ok(rules instanceof ServicesReconciler);
    for (const family of FAMILIES) {
      const expected = expectedListing(rules.placements.values(), family, ADDRESSES);
      if (rules.leftovers === 0) assert.deepEqual(kernelListing(lab.nft, family), expected);
      const frontends = [...rules.placements.values()].map(({ frontend }) => frontend);
      const fresh = renderRuleset(frontends, FAMILIES, ADDRESSES);
      const clean = expectedListing(fresh.placements.values(), family, ADDRESSES);
      assert.deepEqual(canonicalListing(expected), canonicalListing(clean));
    }
  },
  async assertEmpty(lab) {
    for (const family of FAMILIES) assert.deepEqual(kernelListing(lab.nft, family), []);
  },
};

/** iptables of a namespace, with a lock of its own; all of it goes with the lab. */
const opened = new WeakMap<ServicesLab, Xtables>();

function xtablesOf(lab: ServicesLab): Xtables {
  const known = opened.get(lab);
  if (known) return known;
  const folder = mkdtempSync(join(tmpdir(), 'podwire-xtables-'));
  const xtables = Xtables.open({ ns: lab.node, lockFile: join(folder, 'lock') });
  lab.onClose(() => {
    xtables.close();
    rmSync(folder, { recursive: true });
  });
  opened.set(lab, xtables);
  return xtables;
}

const saveAll = (xtables: Xtables): readonly string[] =>
  FAMILIES.flatMap((family) => XTABLES_TABLES.map((table) => xtables.saveNow(family, table)));

/** What a kernel holds after a fresh start with the frontends. */
async function freshTables(lab: ServicesLab, rules: FrontendRules | undefined): Promise<readonly string[]> {
  const { kind } = xtablesOf(lab);
  using ns = NetworkNamespace.anonymous();
  using xtables = Xtables.open({ ns, kind, lockFile: '/dev/null' });
  await new IptablesBackend(xtables, FAMILIES).load(rules?.current ?? [], ADDRESSES);
  return saveAll(xtables);
}

export const iptablesMode: ModeUnderTest = {
  name: 'iptables',
  translates: 'packets',
  forgetsInTime: true,
  open: (lab, context = {}) => iptablesRules(xtablesOf(lab))(contextOf(context)),
  async assertFresh(lab, rules) {
    assert.ok(rules instanceof FrontendRules);
    assert.deepEqual(saveAll(xtablesOf(lab)), await freshTables(lab, rules));
  },
  async assertEmpty(lab) {
    assert.deepEqual(saveAll(xtablesOf(lab)), await freshTables(lab, undefined));
  },
};

/**
 * What is in force of IPVS: services with the servers that take new connections, addresses, and the nftables elements. Services
 * that only wait for their connections to end are told apart: a fresh start has none.
 */
function ipvsState(ns: NetworkNamespace) {
  using ipvs = Ipvs.open(ns);
  using links = Rtnetlink.open(ns);
  using nft = Nftables.open(ns);
  const services = ipvs.services().map((service) => {
    const servers = ipvs.servers(service).filter(({ weight }) => weight > 0);
    const texts = servers.map(({ address, port }) => `${address} ${port}`).sort();
    return { ...service, key: serviceKeyText(service), servers: texts };
  });
  const leaving = services.filter(({ servers }) => servers.length === 0);
  const addresses = links.addresses({ device: DEVICE }).filter(({ scope }) => scope !== 'link');
  const tableWords = (family: string) => {
    const withoutLeaving = nft.list(`table ${family} podwire-ipvs`).replace(/set leaving \{[\s\S]*?\n\t\}/, '');
    return withoutLeaving.split(/[\s,]+/);
  };
  return {
    services: services.filter(({ servers }) => servers.length > 0).sort((a, b) => (a.key < b.key ? -1 : 1)),
    tables: ['ip', 'ip6', 'arp'].map((family) => tableWords(family).sort().join(' ')),
    addresses: addresses.map(({ address }) => address).sort(),
    leaving: leaving.flatMap((service) => ('address' in service ? [service.address] : [])),
  };
}

async function assertIpvs(lab: ServicesLab, rules: FrontendRules | undefined): Promise<void> {
  const { leaving, addresses, ...rest } = ipvsState(lab.node);
  const fresh = await freshIpvs(rules);
  const kept = addresses.filter((address) => fresh.addresses.includes(address) || !leaving.includes(address));
  assert.deepEqual({ ...rest, addresses: kept, leaving: [] }, fresh);
}

async function freshIpvs(rules: FrontendRules | undefined): Promise<ReturnType<typeof ipvsState>> {
  using ns = NetworkNamespace.anonymous();
  using port = openIpvs(ns);
  await new IpvsBackend(port, FAMILIES).load(rules?.current ?? [], ADDRESSES);
  return ipvsState(ns);
}

/** IPVS knows a connection for 10 s after it was reset, and for 2 minutes after it was closed (ip_vs_proto_tcp.c). */
const FORGET_MS = 150_000;

/** Whether a service, or its address in the set of those that are refused, waits for connections. */
function isDraining(ns: NetworkNamespace): boolean {
  using ipvs = Ipvs.open(ns);
  using nft = Nftables.open(ns);
  const leaving = ['ip', 'ip6'].map((family) => nft.list(`set ${family} podwire-ipvs leaving`));
  return leaving.some((text) => text.includes('elements')) || ipvs.services().length > 0;
}

function openIpvs(ns: NetworkNamespace) {
  const port = { ns, ipvs: Ipvs.open(ns), links: Rtnetlink.open(ns), nft: Nftables.open(ns) };
  const close = () => {
    for (const each of [port.ipvs, port.links, port.nft]) each.close();
  };
  return { ...port, close, [Symbol.dispose]: close };
}

/** Runs in the other kernel only (test/otherkernel). */
export const ipvsMode: ModeUnderTest = {
  name: 'ipvs',
  translates: 'packets',
  // IPVS remembers a client for as long as it knows one of its connections, which is minutes after its end.
  forgetsInTime: false,
  open(lab, context = {}) {
    const port = openIpvs(lab.node);
    lab.onClose(port.close);
    return ipvsRules(port)(contextOf(context));
  },
  async assertFresh(lab, rules) {
    assert.ok(rules instanceof FrontendRules);
    await assertIpvs(lab, rules);
  },
  async drained(lab) {
    const end = Date.now() + FORGET_MS;
    while (isDraining(lab.node)) {
      assert.ok(Date.now() < end, 'services are kept though their connections have ended');
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  },
  assertEmpty: (lab) => assertIpvs(lab, undefined),
};
