import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import { FakeClient } from '../../kube/fake-client.ts';
import { FakeRuntime } from './cri/fake-runtime.ts';
import { NodeRegistration } from './node-registration.ts';

function setUp() {
  const client = new FakeClient();
  const clock = new FakeClock();
  const controller = new AbortController();
  const network = { ready: false };
  const registration = new NodeRegistration({
    nodeName: 'node-1',
    nodeIPs: ['172.18.0.2', 'fd00:18::2'],
    client,
    runtime: new FakeRuntime({ clock }),
    resources: { memoryBytes: 1 << 30, capacity: { cpu: '2', memory: '1048576Ki', pods: '110' } },
    kubeletPort: 10250,
    networkReady: () => network.ready,
    log: silentLogger,
    zone: 'a',
    clock,
  });
  const ready = async () => {
    const node = await client.get('Node', { name: 'node-1' });
    return node.status?.conditions?.find(({ type }) => type === 'Ready');
  };
  return { client, clock, controller, network, registration, ready };
}

test('a node registers, becomes ready with its network, and writes nothing while nothing changes', async () => {
  const { client, clock, controller, network, registration, ready } = setUp();
  await registration.start(controller.signal);
  await clock.advance(10);
  const node = await client.get('Node', { name: 'node-1' });
  assert.equal(node.metadata.labels?.['kubernetes.io/hostname'], 'node-1');
  assert.equal(node.metadata.labels?.['topology.kubernetes.io/zone'], 'a');
  assert.deepEqual(node.status?.addresses, [
    { type: 'InternalIP', address: '172.18.0.2' },
    { type: 'InternalIP', address: 'fd00:18::2' },
    { type: 'Hostname', address: 'node-1' },
  ]);
  assert.equal((await ready())?.status, 'False');

  network.ready = true;
  registration.refresh();
  await clock.advance(10);
  assert.equal((await ready())?.status, 'True');
  const patches = () => client.writes.filter((write) => write.includes('Node node-1')).length;
  const before = patches();
  await clock.advance(60_000);
  assert.equal(patches(), before);
  await clock.advance(300_000);
  assert.equal(patches(), before + 1);
  controller.abort();
});

test('the lease is made, owned by the node, and renewed each 10 s', async () => {
  const { client, clock, controller, registration } = setUp();
  const at = { namespace: 'kube-node-lease', name: 'node-1' };
  await registration.start(controller.signal);
  await clock.advance(10);
  const first = await client.get('Lease', at);
  assert.equal(first.spec.holderIdentity, 'node-1');
  assert.equal(first.metadata.ownerReferences?.[0]?.name, 'node-1');
  await clock.advance(10_000);
  const second = await client.get('Lease', at);
  assert.equal(Date.parse(second.spec.renewTime!) - Date.parse(first.spec.renewTime!), 10_000);
  controller.abort();
  await clock.advance(60_000);
  assert.equal((await client.get('Lease', at)).metadata.resourceVersion, second.metadata.resourceVersion);
});

test('a second start takes over the node and its lease', async () => {
  const { client, clock, controller, registration } = setUp();
  await client.create('Node', {
    metadata: { name: 'node-1', labels: { mine: 'kept' } },
    spec: { podCIDR: '10.0.0.0/24' },
  });
  await client.create('Lease', { metadata: { namespace: 'kube-node-lease', name: 'node-1' }, spec: {} });
  await registration.start(controller.signal);
  await clock.advance(10);
  const node = await client.get('Node', { name: 'node-1' });
  assert.equal(node.metadata.labels?.['mine'], 'kept');
  assert.equal(node.spec.podCIDR, '10.0.0.0/24');
  assert.equal(node.status?.nodeInfo?.operatingSystem, 'linux');
  assert.equal(
    (await client.get('Lease', { namespace: 'kube-node-lease', name: 'node-1' })).spec.holderIdentity,
    'node-1',
  );
  controller.abort();
});

test('a node that somebody else marked says at once that it is alive; its own writes it does not answer', async () => {
  const { client, clock, controller, network, registration, ready } = setUp();
  network.ready = true;
  await registration.start(controller.signal);
  await clock.advance(10);
  const writes = () => client.writes.filter((write) => write.includes('node-1')).length;
  const own = await client.get('Node', { name: 'node-1' });
  const before = writes();
  registration.nodeChanged(own);
  await clock.advance(10);
  assert.equal(writes(), before);

  const conditions = own.status!.conditions!.map((one) => ({ ...one, status: 'Unknown' }));
  registration.nodeChanged(await client.updateStatus('Node', { ...own, status: { ...own.status, conditions } }));
  await clock.advance(10);
  assert.equal((await ready())?.status, 'True');
  const after = writes();
  registration.nodeChanged({ ...own, status: { ...own.status, conditions } });
  await clock.advance(10);
  assert.equal(writes(), after, 'an older object is no news');

  await client.delete('Node', { name: 'node-1' });
  registration.nodeChanged(undefined);
  await clock.advance(2000);
  assert.equal((await ready())?.status, 'True', 'a deleted node registers anew');
  controller.abort();
});
