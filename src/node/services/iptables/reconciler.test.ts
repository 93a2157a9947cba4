import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseCidr } from '../../../base/ip.ts';
import { silentLogger } from '../../../base/log.ts';
import { XTABLES_TABLES } from '../../../linux/xtables.ts';
import { everyKindOfFrontend } from '../every-kind.ts';
import { makeService, makeSlice, makeView } from '../fixtures.ts';
import type { FrontendRules } from '../frontend-rules.ts';
import { buildService, type Problem, type ServiceModel } from '../model.ts';
import { anyServiceState, SERVICE_NAMES, type Vocabulary } from '../random-states.ts';
import type { KeyedModel } from '../rules.ts';
import { FakeXtables } from './fake-xtables.ts';
import { IptablesBackend, iptablesRules } from './reconciler.ts';

const GOLDEN = join(import.meta.dirname, 'testdata/tables.txt');
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

const rulesOn = (xtables: FakeXtables, onProblem?: (problem: Problem) => void): FrontendRules =>
  iptablesRules(xtables)({ addresses: ADDRESSES, log: silentLogger, onProblem });

const tables = (xtables: FakeXtables): string =>
  ([4, 6] as const)
    .flatMap((family) => XTABLES_TABLES.map((table) => `# IPv${family}\n${xtables.saveNow(family, table)}`))
    .join('');

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

const service = (n: number, endpoints: readonly string[]): KeyedModel => {
  const object = makeService(`s${n}`, { clusterIPs: [`10.96.1.${n}`], ports: [{ port: 80 }] });
  const model = buildService(object, [makeSlice(`s${n}`, endpoints, [{ port: 8080 }])], view);
  return [model.key, model];
};

it('renders the golden tables, equal whatever the order', async () => {
  const text = async (frontends: ReturnType<typeof everyKindOfFrontend>) => {
    const xtables = new FakeXtables();
    await new IptablesBackend(xtables, [4, 6]).load(frontends, ADDRESSES);
    return tables(xtables);
  };
  const forwards = await text(everyKindOfFrontend(view));
  if (process.env['UPDATE_GOLDEN']) writeFileSync(GOLDEN, forwards);
  assert.equal(forwards, readFileSync(GOLDEN, 'utf8'));
  assert.equal(await text(everyKindOfFrontend(view).reverse()), forwards);
});

describe('the mode iptables', () => {
  it('ends where a fresh start ends, byte by byte, whatever the changes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(anyChange, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 8 }),
        async (batches) => {
          const xtables = new FakeXtables();
          const rules = rulesOn(xtables);
          await rules.apply([]);
          const empty = tables(xtables);
          const last = new Map<string, ServiceModel | undefined>();
          for (const batch of batches) {
            await rules.apply(batch);
            for (const [key, model] of batch) last.set(key, model);
          }
          assert.deepEqual([rules.stats.failures, rules.stats.rebuilds], [0, 1]);
          const fresh = new FakeXtables();
          await rulesOn(fresh).apply(last);
          assert.equal(tables(xtables), tables(fresh));
          await rules.apply([...last.keys()].map((key) => [key, undefined] as const));
          assert.equal(tables(xtables), empty);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('writes the chains of the Service that changed and nothing else', async () => {
    const xtables = new FakeXtables();
    const rules = rulesOn(xtables);
    await rules.apply([service(1, ['10.244.1.1', '10.244.1.2']), service(2, ['10.244.1.1'])]);
    xtables.inputs.length = 0;
    await rules.apply([service(1, ['10.244.1.1', '10.244.1.2']), service(2, ['10.244.1.1'])]);
    assert.equal(xtables.inputs.length, 0);
    await rules.apply([service(1, ['10.244.1.1', '10.244.1.3'])]);
    const [{ family, input }] = xtables.inputs as [(typeof xtables.inputs)[number]];
    assert.equal(family, 4);
    assert.deepEqual(
      input
        .match(/^:\S+|^-X/gm)
        ?.map((word) => word.slice(0, 9))
        .sort(),
      ['-X', ':KUBE-SEP', ':KUBE-SEP', ':KUBE-SVC'],
    );
    assert.doesNotMatch(input, /filter|mangle/);
  });

  it('refuses before it stops to translate, and stops to refuse after it has begun to', async () => {
    const xtables = new FakeXtables();
    const rules = rulesOn(xtables);
    await rules.apply([service(1, ['10.244.1.1'])]);
    xtables.inputs.length = 0;
    await rules.apply([service(1, [])]);
    await rules.apply([service(1, ['10.244.1.1'])]);
    const order = xtables.inputs.map(({ input }) => input.match(/^\*\w+/gm));
    assert.deepEqual(order, [
      ['*filter', '*nat'],
      ['*nat', '*filter'],
    ]);
  });

  it('writes everything anew after an error, and leaves out what the kernel refuses', async () => {
    const xtables = new FakeXtables();
    const problems: Problem[] = [];
    const rules = rulesOn(xtables, (problem) => problems.push(problem));
    await rules.apply([service(1, ['10.244.1.1'])]);
    xtables.failNext = new Error('busy');
    await rules.apply([service(2, ['10.244.1.2'])]);
    assert.deepEqual([rules.stats.failures, rules.stats.rebuilds, rules.services], [1, 2, 2]);
    const restore = xtables.restore.bind(xtables);
    xtables.restore = async (family, input) => {
      if (input.includes('10.96.1.3')) throw new Error('no');
      await restore(family, input);
    };
    await rules.apply([service(3, ['10.244.1.3'])]);
    assert.deepEqual(
      problems.map(({ name, reason }) => [name, reason]),
      [['s3', 'KernelRefused']],
    );
    assert.deepEqual(rules.endpointsOf('10.96.1.2 . tcp . 80'), ['10.244.1.2 . 8080']);
    assert.deepEqual(rules.endpointsOf('10.96.1.3 . tcp . 80'), []);
  });

  it('notices a flush, repairs it, and takes over what another agent left', async () => {
    const xtables = new FakeXtables();
    const rules = rulesOn(xtables);
    assert.ok(rules.isIntact());
    await rules.apply([service(1, ['10.244.1.1']), service(2, ['10.244.1.2'])]);
    const whole = tables(xtables);
    xtables.flush(4, 'filter');
    assert.ok(!rules.isIntact());
    rules.invalidate();
    await rules.apply([]);
    assert.equal(tables(xtables), whole);
    const next = rulesOn(xtables);
    await next.apply([service(2, ['10.244.1.2'])]);
    const fresh = new FakeXtables();
    await rulesOn(fresh).apply([service(2, ['10.244.1.2'])]);
    assert.equal(tables(xtables), tables(fresh));
  });

  it('removes everything, also what leads to it', async () => {
    const xtables = new FakeXtables();
    const empty = tables(xtables);
    const rules = rulesOn(xtables);
    await rules.apply([service(1, ['10.244.1.1'])]);
    assert.notEqual(tables(xtables), empty);
    rules.remove();
    assert.equal(tables(xtables), empty);
  });
});
