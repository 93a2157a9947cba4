import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { silentLogger } from '../../base/log.ts';
import { FakeClient } from '../../kube/fake-client.ts';
import { Informer } from '../../kube/informer.ts';
import type { Draft, KindMap } from '../../kube/types.ts';
import { ERRNO, KernelError } from '../../linux/errors.ts';
import type { ElementChange } from '../../linux/set-elements.ts';
import { PolicyController, type PolicyControllerOptions } from './controller.ts';
import { namespaceObject, podObject, policyObject, textOf } from './testing.ts';
import { clusterPolicyObject } from './testing-cluster.ts';

/** Takes every transaction down, elements in the words of nft; fails when told to. */
class RecordingNft {
  readonly texts: string[] = [];
  fails = 0;
  readonly elements = {
    commit: (changes: readonly ElementChange[]): void => this.run(textOf(changes)),
    commitAsync: (changes: readonly ElementChange[]): Promise<void> => this.runAsync(textOf(changes)),
    hasChain: (): boolean => true,
    counter: (): number => 0,
    counters: (): Map<string, number> => new Map(),
  };
  run(text: string): void {
    if (this.fails > 0) {
      this.fails--;
      throw new Error('the kernel says no');
    }
    this.texts.push(text);
  }
  async runAsync(text: string): Promise<void> {
    await turn();
    this.run(text);
  }
  listJson(): unknown[] {
    throw new KernelError('list', ERRNO['ENOENT']!, 'no table');
  }
}

const pod = (name: string, ip?: string) =>
  podObject(`x/${name}`, { labels: { app: name }, ips: ip ? [ip] : [], uid: `u-${name}` });
const attached = (name: string, ip: string) => ({
  namespace: 'x',
  name,
  uid: `u-${name}`,
  ips: [ip],
  hostInterface: name,
});

async function started(t: { after(fn: () => void): void }, options: Partial<PolicyControllerOptions> = {}) {
  const client = new FakeClient();
  const nft = new RecordingNft();
  const common = { client, log: silentLogger };
  const controller = new PolicyController({
    nodeName: 'n1',
    nft,
    log: silentLogger,
    podTimeoutMs: 50,
    informers: {
      pods: new Informer('Pod', common),
      namespaces: new Informer('Namespace', common),
      policies: new Informer('NetworkPolicy', common),
    },
    ...options,
  });
  await client.create('Namespace', namespaceObject('x') as Draft<KindMap['Namespace']>);
  const abort = new AbortController();
  t.after(() => abort.abort());
  await controller.start(abort.signal);
  return { client, nft, controller };
}

const create = (client: FakeClient, object: ReturnType<typeof pod>) =>
  client.create('Pod', object as Draft<KindMap['Pod']>);
const deny = policyObject('x/deny', { podSelector: {} }) as Draft<KindMap['NetworkPolicy']>;

test('a crowd of new pods shares its transactions', async (t) => {
  const { client, nft, controller } = await started(t);
  await client.create('NetworkPolicy', deny);
  for (let i = 0; i < 50; i++) await create(client, pod(`p${i}`));
  await sleep(30);
  const before = nft.texts.length;
  await Promise.all(Array.from({ length: 50 }, (_, i) => controller.attached(attached(`p${i}`, `10.0.0.${i + 1}`))));
  assert.ok(nft.texts.length - before <= 4, `${nft.texts.length - before} transactions`);
  const text = nft.texts.slice(before).join('');
  for (let i = 0; i < 50; i++) assert.match(text, new RegExp(`ingress4 \\{[^}]*10\\.0\\.0\\.${i + 1} : `));
});

test('a hook rejects when the kernel refuses, and the next change mends everything', async (t) => {
  const { client, nft, controller } = await started(t);
  await create(client, pod('a'));
  await create(client, pod('b'));
  await sleep(30);
  nft.fails = 2;
  await assert.rejects(controller.attached(attached('a', '10.0.0.1')), /the kernel says no/);
  await controller.attached(attached('b', '10.0.0.2'));
  assert.match(
    nft.texts.at(-1)!,
    /delete table inet podwire-policy\n.*identity4[^}]*10\.0\.0\.1 : /s,
    'replaced whole',
  );
});

test('a gone pod’s addresses are cleared and its flows forgotten', async (t) => {
  const forgotten: string[] = [];
  const { client, nft, controller } = await started(t, { forgetFlows: (ips) => void forgotten.push(...ips) });
  await create(client, pod('a', '10.0.0.1'));
  await controller.attached(attached('a', '10.0.0.1'));
  await controller.detached(attached('a', '10.0.0.1'));
  assert.equal(nft.texts.at(-1), 'delete element inet podwire-policy identity4 { 10.0.0.1 }\n');
  assert.deepEqual(forgotten, ['10.0.0.1']);
});

test('pods of the agent’s former life are in the first rules', async (t) => {
  const { nft } = await started(t, { attachments: () => [attached('a', '10.0.0.7')] });
  assert.match(nft.texts.at(-1)!, /ingress4 \{[^}]*10\.0\.0\.7 : 0:1/, 'not known to the API: isolated');
});

test('a policy that is not understood gets one event, not one per resync', async (t) => {
  const events: string[] = [];
  const { client } = await started(t, {
    events: { event: (_object, type, reason, message) => events.push(`${type} ${reason} ${message}`) },
  });
  const spec = { podSelector: {}, ingress: [{ ports: [{ protocol: 'ICMP' }] }] };
  await client.create('NetworkPolicy', policyObject('x/odd', spec) as Draft<KindMap['NetworkPolicy']>);
  await sleep(20);
  await client.patch('NetworkPolicy', { namespace: 'x', name: 'odd' }, { metadata: { labels: { a: 'b' } } });
  await sleep(20);
  assert.equal(events.length, 1);
  assert.match(events[0]!, /^Warning PolicyNotEnforceable .*spec\.ingress\[0\]\.ports\[0\]\.protocol/);
});

test('a ClusterNetworkPolicy that is not understood gets an event and fails closed', async (t) => {
  const events: string[] = [];
  const client = new FakeClient();
  const informer = new Informer('ClusterNetworkPolicy', { client, log: silentLogger });
  const common = { client, log: silentLogger };
  const { nft } = await started(t, {
    informers: {
      pods: new Informer('Pod', common),
      namespaces: new Informer('Namespace', common),
      policies: new Informer('NetworkPolicy', common),
      clusterPolicies: informer,
    },
    events: { event: (object, _type, reason, message) => events.push(`${object.kind} ${reason} ${message}`) },
  });
  await client.create('Namespace', namespaceObject('x') as Draft<KindMap['Namespace']>);
  await client.create('Pod', pod('a', '10.0.0.1') as Draft<KindMap['Pod']>);
  const odd = clusterPolicyObject('odd', { ingress: [{ action: 'Deny', from: [{ nodes: {} }] }] });
  await client.create('ClusterNetworkPolicy', odd as Draft<KindMap['ClusterNetworkPolicy']>);
  await sleep(40);
  assert.equal(events.length, 1);
  assert.match(events[0]!, /^ClusterNetworkPolicy PolicyNotEnforceable .*spec\.ingress\[0\]\.from\[0\]/);
  const text = nft.texts.join('');
  assert.match(text, /admin_ingress4 \{ 10\.0\.0\.1 : /);
  assert.match(text, /tier_ingress_any \{ [0-9a-f]+:[0-9a-f]+ \. 0 : 2\d{9}/, 'everybody is denied');
});

function withClusterPolicies(client: FakeClient) {
  const common = { client, log: silentLogger };
  return {
    pods: new Informer('Pod', common),
    namespaces: new Informer('Namespace', common),
    policies: new Informer('NetworkPolicy', common),
    clusterPolicies: new Informer('ClusterNetworkPolicy', common),
  };
}

test('the status of a ClusterNetworkPolicy says what became of it, and its own writes change nothing', async (t) => {
  const client = new FakeClient();
  const events: string[] = [];
  const { controller, nft } = await started(t, {
    informers: withClusterPolicies(client),
    client,
    events: { event: (object, _type, reason) => void events.push(`${object.metadata.name} ${reason}`) },
  });
  const conditions = async (name: string) =>
    (await client.get('ClusterNetworkPolicy', { name })).status?.conditions?.map(
      ({ type, status, reason }) => `${type} ${status} ${reason}`,
    );
  const until = async (name: string, wanted: readonly string[]) => {
    for (let i = 0; i < 400 && (await conditions(name))?.join() !== wanted.join(); i++) await sleep(5);
    assert.deepEqual(await conditions(name), wanted);
  };
  const odd = clusterPolicyObject('odd', { ingress: [{ action: 'Deny', from: [{}] }] });
  await client.create('ClusterNetworkPolicy', odd as Draft<KindMap['ClusterNetworkPolicy']>);
  const fine = clusterPolicyObject('fine', { egress: [{ action: 'Deny', to: [{ nodes: {} }] }] });
  await client.create('ClusterNetworkPolicy', fine as Draft<KindMap['ClusterNetworkPolicy']>);
  await until('odd', ['Accepted False NotEnforceable']);
  await until('fine', ['Accepted True Accepted']);
  const written = nft.texts.length;
  await sleep(40);
  assert.equal(nft.texts.length, written, 'a new status is no new policy');
  assert.deepEqual(events, ['odd PolicyNotEnforceable']);
  // The kernel refuses all that is tried until it is well again.
  nft.fails = Number.POSITIVE_INFINITY;
  await client.create('Pod', pod('a', '10.0.0.1') as Draft<KindMap['Pod']>);
  await assert.rejects(controller.attached(attached('a', '10.0.0.1')), /the kernel says no/);
  await until('fine', ['Accepted True Accepted', 'RulesNotLoaded.n1 True KernelRefused']);
  nft.fails = 0;
  await controller.attached(attached('a', '10.0.0.1'));
  await until('fine', ['Accepted True Accepted']);
});
