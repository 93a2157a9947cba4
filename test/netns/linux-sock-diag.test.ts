/** TCP sockets as the kernel tells of them, and what they say of requests in flight, over both families. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NetworkNamespace } from '../../src/linux/netns.ts';
import { listTcpSockets } from '../../src/linux/sock-diag.ts';
import { connectTcp, listenTcp } from '../../src/linux/sockets.ts';
import { requestsInFlight } from '../../src/node/drain/quiet.ts';
import { namespaces, skip } from './linux-fixture.ts';

const PORT = 8080;

describe('TCP sockets of a namespace', { skip }, () => {
  const make = namespaces();

  for (const [family, address, listenAt] of [
    ['IPv4', '127.0.0.1', '127.0.0.1'],
    ['IPv6', '::1', '::1'],
    ['IPv4 on a socket of both', '127.0.0.1', '::'],
  ] as const) {
    test(`a request is in flight until it is answered: ${family}`, async (t) => {
      const ns = make(`diag-${family.replaceAll(' ', '-')}`);
      const inFlight = () => requestsInFlight(listTcpSockets(ns)).length;
      const server = createServer({ pauseOnConnect: true });
      const fd = listenTcp({ ns, address: listenAt, port: PORT, v6only: false });
      assert.deepEqual(
        listTcpSockets(ns).map(({ state, localPort }) => [state, localPort]),
        [['LISTEN', PORT]],
      );
      const client = await connected(ns, address);
      t.after(() => {
        client.destroy();
        server.close();
      });
      assert.equal(inFlight(), 2, 'not accepted: the listener’s, and its own silence');
      client.write('question');
      server.listen({ fd });
      const [conversation] = (await once(server, 'connection')) as [Socket];
      t.after(() => conversation.destroy());
      await eventually(() =>
        listTcpSockets(ns).some(({ state, receiveQueue }) => state !== 'LISTEN' && receiveQueue === 8),
      );
      assert.equal(inFlight(), 1, 'not read');
      conversation.resume();
      await once(conversation, 'data');
      await sleep(150);
      assert.equal(inFlight(), 1, 'not answered');
      conversation.write('answer');
      await once(client, 'data');
      await eventually(() => inFlight() === 0);
      // In one tick of the kernel nobody can tell which was first.
      await sleep(20);
      client.write('another');
      await once(conversation, 'data');
      await sleep(150);
      assert.equal(inFlight(), 1, 'the second is not answered');
      await answerToDeafEars(conversation, client, inFlight);
      conversation.end();
      client.resume();
      await once(client, 'end');
      await eventually(() => inFlight() === 0);
    });
  }

  test('an empty namespace has none, and a socket of another namespace is not seen', () => {
    const ns = make('diag-empty');
    assert.deepEqual(listTcpSockets(ns), []);
  });
});

/** More than the client's kernel takes while nobody reads there: the rest is not acknowledged. */
async function answerToDeafEars(server: Socket, client: Socket, inFlight: () => number): Promise<void> {
  client.pause();
  server.write(Buffer.alloc(16 << 20));
  await sleep(150);
  assert.equal(inFlight(), 1, 'the answer is not taken');
}

async function connected(ns: NetworkNamespace, host: string): Promise<Socket> {
  return new Socket({ fd: await connectTcp({ ns, address: host, port: PORT }), readable: true, writable: true });
}

async function eventually(holds: () => boolean): Promise<void> {
  for (let i = 0; !holds(); i++) {
    assert.ok(i < 500, 'not in time');
    await sleep(10);
  }
}
