import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { joinByteStreams } from './byte-tunnel.ts';

/** Two connected sockets on the loopback. */
async function socketPair(): Promise<[net.Socket, net.Socket]> {
  const server = net.createServer({ allowHalfOpen: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = net.connect({
    port: (server.address() as net.AddressInfo).port,
    host: '127.0.0.1',
    allowHalfOpen: true,
  });
  const [far] = (await once(server, 'connection')) as [net.Socket];
  server.close();
  return [near, far];
}

async function tunnel(lingerMs?: number): Promise<{ left: net.Socket; right: net.Socket; done: Promise<void> }> {
  const [left, a] = await socketPair();
  const [right, b] = await socketPair();
  return { left, right, done: joinByteStreams(a as Duplex, b as Duplex, { lingerMs }) };
}

function megabytes(count: number, seed: number): Buffer {
  const bytes = Buffer.alloc(count << 20);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + seed + (i >> 8)) & 0xff;
  return bytes;
}

test('bytes pass both ways at the same time, whole, and both sides close', async () => {
  const { left, right, done } = await tunnel();
  const [up, down] = [megabytes(3, 1), megabytes(3, 2)];
  left.end(up);
  right.end(down);
  const [gotDown, gotUp] = await Promise.all([buffer(left), buffer(right)]);
  assert.ok(gotUp.equals(up));
  assert.ok(gotDown.equals(down));
  await done;
});

test('a half close travels through and the other direction stays open', async () => {
  const { left, right, done } = await tunnel();
  left.end('question');
  assert.equal((await buffer(right)).toString(), 'question');
  right.end('answer');
  assert.equal((await buffer(left)).toString(), 'answer');
  await done;
});

test('a side that breaks ends the other', async () => {
  const { left, right, done } = await tunnel(50);
  left.write('x');
  await once(right, 'data');
  right.on('error', () => {});
  left.resetAndDestroy();
  await once(right, 'end');
  right.end();
  await done;
});

test('a peer that never closes is closed after the linger time', async () => {
  const { left, right, done } = await tunnel(20);
  right.on('error', () => {});
  left.write('x');
  await once(right, 'data');
  left.resetAndDestroy();
  await done;
  right.destroy();
});
