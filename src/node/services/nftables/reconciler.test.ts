import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type IpAddress, parseCidr } from '../../../base/ip.ts';
import { silentLogger } from '../../../base/log.ts';
import { makeService, makeSlice, makeView } from '../fixtures.ts';
import { buildService, type Problem, type ServiceModel } from '../model.ts';
import { anyServiceState, SERVICE_NAMES, type Vocabulary } from '../random-states.ts';
import type { KeyedModel } from '../rules.ts';
import { FakeNft } from './fake-nft.ts';
import { canonicalListing, expectedListing } from './listing.ts';
import { ServicesReconciler } from './reconciler.ts';
import { ELEMENT_MAPS, tableOf } from './schema.ts';

const ADDRESSES = {
  podCidrs: ['10.244.0.0/16', 'fd00:10:244::/56'].map(parseCidr),
  ownPodCidrs: ['10.244.0.0/24', 'fd00:10:244::/64'].map(parseCidr),
  serviceCidrs: ['10.96.0.0/16', 'fd00:10:96::/112'].map(parseCidr),
};
const view = makeView('n1', ['192.0.2.1', '2001:db8::1'], 'z1');
const WORDS: Vocabulary = {
  pods: [2, 3, 4, 5, 6].map((n) => ({
    addresses: [`10.244.0.${n}`, `fd00:10:244::${n}`],
    node: n < 5 ? 'n1' : 'n2',
  })),
  serverPorts: [8080, 8081],
  externalIps: ['203.0.113.5', '2001:db8:cb::5'],
  balancerIps: ['203.0.113.5', '203.0.113.6', '2001:db8:cb::6'],
  sourceRanges: ['198.51.100.0/24', '198.51.100.7/32', '0.0.0.0/0', '2001:db8:64::/64'],
  garbage: ['127.0.0.1', '::1', 'nonsense'],
};

function reconcilerOn(nft: FakeNft, onProblem?: (problem: Problem) => void): ServicesReconciler {
  return new ServicesReconciler({ nft, addresses: ADDRESSES, log: silentLogger, onProblem });
}

const kernel = (nft: FakeNft, family: 4 | 6) => nft.listing(tableOf(family), ELEMENT_MAPS);
const canonical = (nft: FakeNft) => [4, 6].map((family) => canonicalListing(kernel(nft, family as 4 | 6)));

async function settle(rules: ServicesReconciler): Promise<void> {
  await rules.apply([]);
  assert.equal(rules.leftovers, 0);
}

const anyChange: fc.Arbitrary<KeyedModel> = fc
  .nat(SERVICE_NAMES.length - 1)
  .chain((index) =>
    fc
      .option(anyServiceState(index, WORDS), { nil: undefined, freq: 5 })
      .map(
        (state) =>
          [`default/${SERVICE_NAMES[index]}`, state && buildService(state.service, state.slices, view)] as const,
      ),
  );

describe('services reconciler', () => {
  it('ends where a fresh render ends, whatever the changes and their order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(anyChange, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 8 }),
        fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
        async (batches, random) => {
          const nft = new FakeNft();
          const rules = reconcilerOn(nft);
          const last = new Map<string, ServiceModel | undefined>();
          for (const batch of batches) {
            await rules.apply(batch);
            for (const [key, model] of batch) last.set(key, model);
          }
          await settle(rules);
          assert.equal(rules.stats.failures, 0);
          assert.equal(rules.stats.rebuilds, 1);
          for (const family of [4, 6] as const)
            assert.deepEqual(kernel(nft, family), expectedListing(rules.placements.values(), family, ADDRESSES));

          const shuffled = new FakeNft();
          const other = reconcilerOn(shuffled);
          const order = [...last].sort(() => (random.next().value ?? 0.5) - 0.5);
          for (const [key, model] of order) await other.apply([[key, model]]);
          await settle(other);
          assert.deepEqual(canonical(nft), canonical(shuffled));

          const fresh = new FakeNft();
          await reconcilerOn(fresh).apply(last);
          assert.deepEqual(canonical(nft), canonical(fresh));

          await rules.apply([...last.keys()].map((key) => [key, undefined] as const));
          await settle(rules);
          assert.deepEqual(kernel(nft, 4), []);
          assert.deepEqual(kernel(nft, 6), []);
        },
      ),
      { numRuns: 150 },
    );
  });

  const service = (n: number, endpoints: readonly string[]) =>
    buildService(
      makeService(`s${n}`, { clusterIPs: [`10.96.1.${n}`], ports: [{ port: 80 }] }),
      [makeSlice(`s${n}`, endpoints, [{ port: 8080 }])],
      view,
    );
  const keyed = (model: ServiceModel): KeyedModel => [model.key, model];

  it('adds an endpoint and its count in one transaction, and removes one in two', async () => {
    const nft = new FakeNft();
    const rules = reconcilerOn(nft);
    await rules.apply([keyed(service(2, ['10.244.1.2', '10.244.1.3'])), keyed(service(3, ['10.244.1.1']))]);
    await rules.apply([keyed(service(1, ['10.244.1.1', '10.244.1.2', '10.244.1.3']))]);
    nft.transactions.length = 0;
    await rules.apply([keyed(service(1, ['10.244.1.2', '10.244.1.3']))]);
    assert.equal(nft.transactions.length, 1);
    assert.match(
      nft.transactions[0]!,
      /add element .* endpoints \{ 10\.96\.1\.1 \. tcp \. 80 \. 0 : 10\.244\.1\.3 \. 8080 \}/,
    );
    assert.doesNotMatch(nft.transactions[0]!, /delete element .* endpoints .*tcp \. 80 \. 2/);
    assert.equal(rules.leftovers, 1);
    await rules.apply([]);
    assert.match(
      nft.transactions[1]!,
      /^delete element ip podwire-services endpoints \{ 10\.96\.1\.1 \. tcp \. 80 \. 2 \}\n$/,
    );
    await rules.apply([keyed(service(1, ['10.244.1.2', '10.244.1.3', '10.244.1.9']))]);
    assert.equal(nft.transactions.length, 3);
  });

  it('takes back a slot that waits to be deleted', async () => {
    const nft = new FakeNft();
    const rules = reconcilerOn(nft);
    await rules.apply([keyed(service(1, ['10.244.1.1', '10.244.1.2']))]);
    await rules.apply([keyed(service(1, ['10.244.1.1']))]);
    await rules.apply([keyed(service(1, ['10.244.1.1', '10.244.1.3']))]);
    await settle(rules);
    assert.equal(rules.stats.failures, 0);
    assert.deepEqual(kernel(nft, 4), expectedListing(rules.placements.values(), 4, ADDRESSES));
  });

  it('writes the size of the change, not of the cluster', async () => {
    const nft = new FakeNft();
    const rules = reconcilerOn(nft);
    await rules.apply(Array.from({ length: 200 }, (_, n) => keyed(service(n, ['10.244.1.1', '10.244.1.2']))));
    await rules.apply([keyed(service(7, ['10.244.1.1']))]);
    nft.transactions.length = 0;
    await rules.apply([keyed(service(7, ['10.244.1.1', '10.244.1.2', '10.244.1.3']))]);
    assert.ok(nft.transactions.join('').length < 800, nft.transactions.join(''));
  });

  it('writes all anew when a change is refused or the tables are gone', async () => {
    const nft = new FakeNft();
    const rules = reconcilerOn(nft);
    await rules.apply([keyed(service(1, ['10.244.1.1'])), keyed(service(2, ['10.244.1.1']))]);
    assert.ok(rules.isIntact());
    nft.flushRuleset();
    assert.ok(!rules.isIntact());
    await rules.apply([keyed(service(2, ['10.244.1.2']))]);
    assert.deepEqual([rules.stats.failures, rules.stats.rebuilds], [1, 2]);
    assert.deepEqual(kernel(nft, 4), expectedListing(rules.placements.values(), 4, ADDRESSES));
    assert.ok(nft.transactions.some((text) => text.startsWith('add table ip podwire-services\ndelete table ip ')));
  });

  it('takes over the tables of an earlier agent, refilled if they are of its layout and replaced if not', async () => {
    const nft = new FakeNft();
    await reconcilerOn(nft).apply([keyed(service(1, ['10.244.1.1'])), keyed(service(2, ['10.244.1.1', '10.244.1.2']))]);
    for (const refusesRefill of [false, true]) {
      nft.refuse = (text) => (refusesRefill && text.startsWith('flush') ? 'File exists' : undefined);
      const next = reconcilerOn(nft);
      nft.transactions.length = 0;
      await next.apply([keyed(service(2, ['10.244.1.2', '10.244.1.3', '10.244.1.4']))]);
      // Rules first, while the old elements lead to their old chains; then all elements at once.
      if (refusesRefill) assert.match(nft.transactions.join('---'), /^add table[^-]+-services\ndelete table.*(?!---)/s);
      else assert.match(nft.transactions.join('---'), /^flush chain .*---flush map ip podwire-services dispatch\n/s);
      assert.equal(nft.transactions.length, refusesRefill ? 1 : 2);
      assert.deepEqual(kernel(nft, 4), expectedListing(next.placements.values(), 4, ADDRESSES));
    }
  });

  it('leaves out what the kernel refuses, keeps the rest, and says so', async () => {
    const nft = new FakeNft();
    const problems: Problem[] = [];
    const rules = reconcilerOn(nft, (problem) => problems.push(problem));
    await rules.apply([keyed(service(1, ['10.244.1.1']))]);
    nft.refuse = (text) => (text.includes('10.244.66.6') ? 'Invalid argument' : undefined);
    await rules.apply([keyed(service(2, ['10.244.66.6']))]);
    assert.deepEqual(
      problems.map(({ reason, name }) => [reason, name]),
      [['KernelRefused', 's2']],
    );
    assert.equal(rules.frontends, 1);
    nft.refuse = undefined;
    await rules.apply([keyed(service(2, ['10.244.66.6']))]);
    assert.equal(rules.frontends, 2);
  });

  it('gives a frontend that two want to the older, and back when it goes', async () => {
    const nft = new FakeNft();
    const problems: Problem[] = [];
    const rules = reconcilerOn(nft, (problem) => problems.push(problem));
    const claim = (name: string, created: string, pod: string) => {
      const object = makeService(name, {
        clusterIPs: [`10.96.2.${name.length}`],
        externalIPs: ['203.0.113.9'],
        ports: [{ port: 80 }],
      });
      object.metadata.creationTimestamp = created;
      return buildService(object, [makeSlice(name, [pod], [{ port: 8080 }])], view);
    };
    const younger = claim('younger', '2026-02-01T00:00:00Z', '10.244.1.1');
    const older = claim('older', '2026-01-01T00:00:00Z', '10.244.1.2');
    await rules.apply([keyed(younger)]);
    await rules.apply([keyed(older)]);
    const target = () => rules.placements.get('203.0.113.9 . tcp . 80')?.inside;
    assert.deepEqual(target(), ['10.244.1.2 . 8080']);
    await rules.apply([keyed(younger)]);
    assert.deepEqual(target(), ['10.244.1.2 . 8080']);
    assert.deepEqual(
      problems.map(({ reason, name }) => [reason, name]),
      [['FrontendConflict', 'younger']],
    );
    await rules.apply([[older.key, undefined]]);
    assert.deepEqual(target(), ['10.244.1.1 . 8080']);
  });

  it('treats a ClusterIP outside the Service CIDRs as one', async () => {
    const nft = new FakeNft();
    const rules = reconcilerOn(nft);
    const stray = buildService(
      makeService('x', { clusterIPs: ['10.200.0.1'], ports: [{ port: 80 }, { name: 'b', port: 81 }] }),
      [],
      view,
    );
    await rules.apply([keyed(stray)]);
    assert.deepEqual(nft.listing(tableOf(4), ['service-addresses']), ['service-addresses 10.200.0.1']);
    await rules.apply([[stray.key, undefined]]);
    assert.deepEqual(nft.listing(tableOf(4), ['service-addresses']), []);
  });

  it('loads many Services in parts when nothing is there yet', async () => {
    const nft = new FakeNft();
    const rules = reconcilerOn(nft);
    const model = (n: number): ServiceModel => ({
      key: `default/s${n}`,
      created: String(n),
      problems: [],
      frontends: [
        {
          family: 4,
          address: `10.96.${n >> 8}.${n & 255}` as IpAddress,
          protocol: 'tcp',
          port: 80,
          role: 'clusterIP',
          masquerade: false,
          inside: { kind: 'reject' },
        },
      ],
    });
    await rules.apply(Array.from({ length: 5500 }, (_, n) => keyed(model(n))));
    assert.equal(nft.transactions.length, 1 + Math.ceil(5500 / 1000));
    assert.equal(kernel(nft, 4).length, 5500);
  });
});
