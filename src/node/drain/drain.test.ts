import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FakeClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import { FakeClient } from '../../kube/fake-client.ts';
import { Informer } from '../../kube/informer.ts';
import type { Pod } from '../../kube/types.ts';
import type { TcpSocket } from '../../linux/sock-diag.ts';
import { endpointDrain } from './drain.ts';
import { DATAGRAM_BYTES, decodeDatagram, encodeDatagram } from './protocol.ts';
import type { SyncOutcome } from './sync-client.ts';

test('datagrams come back as they went; noise is nothing', () => {
  const nonce = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('hex'));
  const kind = fc.constantFrom('question' as const, 'answer' as const);
  fc.assert(
    fc.property(kind, nonce, fc.maxSafeNat(), (kind, nonce, version) => {
      const bytes = Buffer.alloc(100, 0xff);
      const length = encodeDatagram({ kind, nonce, version }, bytes);
      assert.equal(length, DATAGRAM_BYTES);
      assert.deepEqual(decodeDatagram(bytes, length), { kind, nonce, version });
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) =>
      assert.equal(decodeDatagram(Buffer.from(bytes)), undefined),
    ),
  );
});

const uid = 'pod-uid';
const pod = { metadata: { uid, name: 'a', namespace: 'default' }, spec: { containers: [] } } as unknown as Pod;
const endpoint = (conditions: object) => ({ addresses: ['10.0.0.1'], targetRef: { kind: 'Pod', uid }, conditions });

async function lab() {
  const client = new FakeClient();
  const clock = new FakeClock();
  const end = new AbortController();
  const informer = <K extends 'EndpointSlice' | 'Node' | 'Service'>(kind: K) =>
    new Informer(kind, { client, log: silentLogger });
  const [slices, nodes, services] = [informer('EndpointSlice'), informer('Node'), informer('Service')];
  for (const [i, ready] of ['True', 'True', 'Unknown'].entries()) {
    const status = {
      conditions: [{ type: 'Ready', status: ready }],
      addresses: [{ type: 'InternalIP', address: `172.18.0.${i}` }],
    };
    await client.create('Node', { metadata: { name: `n${i}` }, spec: {}, status });
  }
  const asked: { address: string; version: number; timeoutMs: number; answer: (outcome: SyncOutcome) => void }[] = [];
  const sync = {
    keepOnly() {},
    waitFor: (address: string, version: number, timeoutMs: number) =>
      new Promise<SyncOutcome>((answer) => asked.push({ address, version, timeoutMs, answer })),
  };
  /** What the pod's sockets are; looked at once each time that they are asked for. */
  const pods = { sockets: [] as readonly TcpSocket[] | undefined, looks: 0, fails: false };
  const sockets = () => {
    pods.looks++;
    if (pods.fails) throw new Error('the kernel has no sock_diag');
    return pods.sockets;
  };
  const drain = endpointDrain({ services, slices, nodes, sync, sockets, log: silentLogger, clock });
  await Promise.all([services, slices, nodes].map((one) => one.start(end.signal)));
  const begin = (one = pod) => {
    const state = { done: false };
    void drain(one).then(() => {
      state.done = true;
    });
    return state;
  };
  const pass = async (ms: number) => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    await clock.advance(ms);
    await new Promise((resolve) => setImmediate(resolve));
  };
  const offer = (conditions: object, managedBy = 'endpointslice-controller.k8s.io') =>
    client.create('EndpointSlice', {
      metadata: { name: 's', namespace: 'default', labels: { 'endpointslice.kubernetes.io/managed-by': managedBy } },
      addressType: 'IPv4',
      endpoints: [endpoint(conditions)],
    });
  const change = async (conditions: object) => {
    const slice = await client.get('EndpointSlice', { namespace: 'default', name: 's' });
    return client.update('EndpointSlice', { ...slice, endpoints: [endpoint(conditions)] });
  };
  return { client, clock, asked, pods, begin, pass, offer, change, end };
}

const BUSY: readonly TcpSocket[] = [{ state: 'LISTEN', localPort: 80, remotePort: 0, receiveQueue: 1, sendQueue: 511 }];

test('a pod that no slice mentions, or without grace, waits for nothing', async () => {
  const { begin, pass, offer, end } = await lab();
  const state = begin();
  await pass(0);
  assert.equal(state.done, true);
  await offer({ ready: true });
  await pass(0);
  const forced = begin({ ...pod, metadata: { ...pod.metadata, deletionGracePeriodSeconds: 0 } });
  await pass(0);
  assert.equal(forced.done, true);
  end.abort();
});

test('first the slices, then every Ready node with their version, then a moment', async () => {
  const { begin, pass, offer, change, asked, end } = await lab();
  await offer({ ready: true });
  await pass(0);
  const state = begin();
  await pass(5000);
  assert.equal(asked.length, 0, 'still offered');
  const changed = await change({ ready: false, serving: true, terminating: true });
  await pass(20);
  const version = Number(changed.metadata.resourceVersion);
  assert.deepEqual(
    asked.map((one) => [one.address, one.version, one.timeoutMs]),
    [
      ['172.18.0.0', version, 9_995],
      ['172.18.0.1', version, 9_995],
    ],
  );
  asked[0]!.answer('synced');
  await pass(5000);
  assert.equal(state.done, false, 'the second node is not there yet');
  asked[1]!.answer('synced');
  await pass(50);
  assert.equal(state.done, false, 'a moment for what is on its way');
  await pass(100);
  assert.equal(state.done, true);
  end.abort();
});

test('a machine that stood still takes nothing from the wait for the slices', async () => {
  const { clock, begin, pass, offer, change, asked, end } = await lab();
  await offer({ ready: true });
  await pass(0);
  const state = begin();
  await pass(1000);
  const now = clock.now.bind(clock);
  clock.now = () => now() + 60_000;
  await pass(5000);
  assert.deepEqual([asked.length, state.done], [0, false]);
  await change({ ready: false, terminating: true });
  await pass(20);
  assert.equal(asked.length, 2);
  assert.ok(asked[0]!.timeoutMs > 8_800 && asked[0]!.timeoutMs < 9_100, `${asked[0]!.timeoutMs}`);
  end.abort();
});

test('where the kernel does not tell of sockets a pod gets the time of the looks', async () => {
  const { begin, pass, offer, asked, pods, end } = await lab();
  await offer({ ready: false, terminating: true });
  await pass(0);
  pods.sockets = undefined;
  pods.fails = true;
  const state = begin();
  await pass(0);
  for (const one of asked) one.answer('synced');
  await pass(0);
  await pass(50);
  assert.equal(state.done, false);
  await pass(50);
  assert.deepEqual([state.done, pods.looks], [true, 3]);
  end.abort();
});

/** A connection over which an answer goes in parts: nothing is in flight in the moment of any look. */
function answering(part: number): readonly TcpSocket[] {
  const stream = { sinceSent: 5, sinceReceived: 500, bytesSent: 1 + part, bytesReceived: 10 };
  const connection = {
    state: 'ESTABLISHED',
    localPort: 80,
    remotePort: 1,
    receiveQueue: 0,
    sendQueue: 0,
    stream,
  } as const;
  return [{ ...BUSY[0]!, receiveQueue: 0 }, connection];
}

test('a pod that has requests to answer is let finish, for so many looks', async () => {
  const { begin, pass, offer, asked, pods, end } = await lab();
  await offer({ ready: false, terminating: true });
  await pass(0);
  pods.sockets = BUSY;
  const [first, second] = [begin(), begin({ ...pod, metadata: { ...pod.metadata, deletionGracePeriodSeconds: 2 } })];
  await pass(0);
  for (const one of asked) one.answer('synced');
  await pass(0);
  for (let i = 0; i < 24; i++) await pass(50);
  assert.deepEqual([first.done, second.done], [false, true], 'a part of its grace period is the limit');
  pods.sockets = [];
  for (let i = 0; i < 2; i++) await pass(50);
  assert.equal(first.done, false, 'only just quiet');
  await pass(50);
  assert.equal(first.done, true);

  pods.looks = 0;
  asked.length = 0;
  const third = begin();
  await pass(0);
  for (const one of asked) one.answer('synced');
  await pass(0);
  for (let i = 0; i < 39; i++) {
    pods.sockets = answering(i);
    await pass(50);
  }
  assert.deepEqual([third.done, pods.looks], [false, 40], 'an answer in parts');
  await pass(50);
  assert.deepEqual([third.done, pods.looks], [true, 40]);
  end.abort();
});

test('a silent node gets a fixed time; the wait is a share of the grace period', async () => {
  const { begin, pass, offer, asked, end } = await lab();
  await offer({ ready: false, terminating: true });
  await pass(0);
  const state = begin({ ...pod, spec: { ...pod.spec, terminationGracePeriodSeconds: 4 } });
  await pass(0);
  assert.equal(asked[0]?.timeoutMs, 2000);
  for (const one of asked) one.answer('silent');
  await pass(450);
  assert.equal(state.done, false);
  await pass(200);
  assert.equal(state.done, true);
  end.abort();
});

test('a slice from before the pod was ready is waited for: it says nothing of its end', async () => {
  const { begin, pass, offer, change, asked, end } = await lab();
  await offer({ ready: false, serving: false, terminating: false });
  await pass(0);
  begin();
  await pass(3000);
  assert.equal(asked.length, 0);
  await change({ ready: true, serving: true, terminating: false });
  await pass(3000);
  assert.equal(asked.length, 0);
  await change({ ready: false, serving: false, terminating: true });
  await pass(20);
  assert.equal(asked.length, 2);
  end.abort();
});

test('a pod that leaves a slice: the nodes are asked for the version without it', async () => {
  const { client, begin, pass, offer, asked, end } = await lab();
  await offer({ ready: true });
  await pass(0);
  begin();
  await pass(100);
  const slice = await client.get('EndpointSlice', { namespace: 'default', name: 's' });
  const { metadata } = await client.update('EndpointSlice', { ...slice, endpoints: [] });
  await pass(20);
  assert.deepEqual(
    asked.map(({ version }) => version),
    [Number(metadata.resourceVersion), Number(metadata.resourceVersion)],
  );
  end.abort();
});

test('a ready pod that a Service selects waits for slices that are not there yet', async () => {
  const { client, begin, pass, offer, asked, end } = await lab();
  const selector = { app: 'a' };
  await client.create('Service', { metadata: { name: 'a', namespace: 'default' }, spec: { selector } });
  await pass(0);
  const status = { conditions: [{ type: 'Ready', status: 'True' }] };
  const served = { ...pod, metadata: { ...pod.metadata, labels: { app: 'a', tier: 'b' } }, status } as Pod;
  const [never, other, state] = [begin({ ...served, status: {} }), begin({ ...pod, status } as Pod), begin(served)];
  await pass(1000);
  assert.deepEqual([never.done, other.done, state.done], [true, true, false]);
  await offer({ ready: false, terminating: true });
  await pass(20);
  assert.equal(asked.length, 2);
  const late = begin({ ...served, metadata: { ...served.metadata, uid: 'other' } });
  await pass(2010);
  assert.equal(late.done, true, 'not for long');
  end.abort();
});

for (const [who, managedBy, limitMs] of [
  ['their controller', 'endpointslice-controller.k8s.io', 15_000],
  ['somebody else', 'me', 2_000],
] as const) {
  test(`slices of ${who} that never follow do not hold a pod for ever`, async () => {
    const { begin, pass, offer, asked, end } = await lab();
    await offer({ ready: true }, managedBy);
    await pass(0);
    const state = begin();
    await pass(limitMs - 100);
    assert.equal(asked.length, 0);
    await pass(150);
    for (const one of asked) one.answer('synced');
    await pass(200);
    assert.equal(state.done, true);
    end.abort();
  });
}
