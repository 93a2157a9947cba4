import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { silentLogger } from '../../base/log.ts';
import { DropServer } from './drop-server.ts';
import { type DeniedPacket, type Drop, PolicyDrops } from './drops.ts';
import type { ClusterState } from './oracle.ts';
import { namespaceObject, podObject, policyObject } from './testing.ts';

const state: ClusterState = {
  namespaces: [namespaceObject('x')],
  pods: [podObject('x/a', { ips: ['10.0.0.1'] }), podObject('x/b', { ips: ['10.0.0.2'] })],
  policies: [policyObject('x/deny', { podSelector: {}, policyTypes: ['Ingress'] })],
};

const packet = (prefix: string, source: string, destination: string): DeniedPacket => ({
  prefix,
  headers: { source, destination, protocol: 6, sourcePort: 4000, destinationPort: 80 },
});

async function started(t: { after(fn: () => void): void }) {
  let tell: (denied: DeniedPacket) => void = () => {};
  let closed = false;
  const drops = new PolicyDrops({
    nodeName: 'n1',
    state: () => state,
    watch: ({ onPacket }) => {
      tell = onPacket;
      const close = () => {
        closed = true;
      };
      return { close };
    },
    log: silentLogger,
  });
  const abort = new AbortController();
  t.after(() => {
    abort.abort();
    assert.ok(closed);
  });
  await drops.start(abort.signal);
  return { drops, signal: abort.signal, tell: (denied: DeniedPacket) => tell(denied) };
}

test('a denied packet is told with its pods and the policies that isolate', async (t) => {
  const { drops, tell } = await started(t);
  tell(packet('ingress', '10.0.0.1', '10.0.0.2'));
  const [drop] = drops.recent();
  assert.deepEqual(
    { ...drop, time: '' },
    {
      time: '',
      node: 'n1',
      direction: 'ingress',
      protocol: 'TCP',
      source: { address: '10.0.0.1', port: 4000, pod: 'x/a' },
      destination: { address: '10.0.0.2', port: 80, pod: 'x/b' },
      policies: ['x/deny'],
    },
  );
  tell(packet('egress', '10.0.0.1', '10.0.0.2'));
  assert.match(drops.recent()[1]?.note ?? '', /just changed/);
  tell(packet('ingress', '10.0.0.1', '10.0.0.9'));
  assert.match(drops.recent()[2]?.note ?? '', /no pod is known/);
  tell({ prefix: 'ingress', headers: undefined });
  tell(packet('somebody else', '10.0.0.1', '10.0.0.2'));
  assert.equal(drops.recent().length, 3);
});

test('only the last ones are kept', async (t) => {
  const { drops, tell } = await started(t);
  for (let i = 0; i < 300; i++) tell(packet('ingress', '10.0.0.1', '10.0.0.2'));
  assert.equal(drops.recent().length, 256);
});

test('the socket tells of past drops, then of each as it happens', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'podwire-drops-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const { drops, tell, signal } = await started(t);
  const socketPath = join(folder, 'run', 'drops.sock');
  await new DropServer({ socketPath, drops, log: silentLogger }).start(signal);
  tell(packet('ingress', '10.0.0.1', '10.0.0.2'));
  const socket = connect(socketPath);
  t.after(() => socket.destroy());
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value ?? '') as Drop & { live?: boolean };
  assert.equal((await next()).destination.pod, 'x/b');
  assert.equal((await next()).live, true);
  tell(packet('ingress', '10.0.0.2', '10.0.0.1'));
  assert.equal((await next()).destination.pod, 'x/a');
  socket.destroy();
  await once(socket, 'close');
});
