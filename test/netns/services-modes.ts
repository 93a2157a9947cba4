/** The modes of the proxy as the tests with packets see them: each opens its rules in the lab and says what is right there. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Family } from '../../src/base/ip.ts';
import { silentLogger } from '../../src/base/log.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { XTABLES_TABLES, Xtables } from '../../src/linux/xtables.ts';
import { FrontendRules } from '../../src/node/services/frontend-rules.ts';
import { IptablesBackend, iptablesRules } from '../../src/node/services/iptables/reconciler.ts';
import { canonicalListing, expectedListing, kernelListing } from '../../src/node/services/nftables/listing.ts';
import { nftablesRules, ServicesReconciler } from '../../src/node/services/nftables/reconciler.ts';
import { renderRuleset } from '../../src/node/services/nftables/render.ts';
import type { RulesContext, ServiceRules } from '../../src/node/services/rules.ts';
import { ADDRESSES, type ServicesLab } from './services-lab.ts';

export interface ModeUnderTest {
  readonly name: string;
  /** Where destinations are replaced: in packets, or where pods and the node connect. */
  readonly translates: 'packets' | 'sockets';
  /** Makes of the lab what the mode needs. */
  prepare?(lab: ServicesLab): Promise<void>;
  /** Opens the rules in the lab's node, as an agent does; again for a new agent. */
  open(lab: ServicesLab, context?: Partial<RulesContext>): ServiceRules;
  /** Asserts that the kernel holds what a fresh start with the same frontends would write. */
  assertFresh(lab: ServicesLab, rules: ServiceRules): Promise<void>;
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
  open: (lab, context = {}) => iptablesRules(xtablesOf(lab))(contextOf(context)),
  async assertFresh(lab, rules) {
    assert.ok(rules instanceof FrontendRules);
    assert.deepEqual(saveAll(xtablesOf(lab)), await freshTables(lab, rules));
  },
  async assertEmpty(lab) {
    assert.deepEqual(saveAll(xtablesOf(lab)), await freshTables(lab, undefined));
  },
};
