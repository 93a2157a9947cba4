import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { bindUdp, decodeSocketAddress, socketAddress } from './sockets.ts';
import { type DatagramHandler, SLOT_BYTES, UdpBatchSocket } from './udp-batch.ts';

/** A batch socket and a client, both gone when the test ends. */
async function pair(t: { after(fn: () => void): void }, handler: DatagramHandler, address = '127.0.0.1') {
  const fd = bindUdp({ address, port: 0 });
  const { port } = socketAddress(fd);
  const socket = new UdpBatchSocket(fd, handler);
  const client = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  t.after(() => {
    socket.close();
    client.close();
  });
  client.bind(0, address);
  await once(client, 'listening');
  client.setRecvBufferSize(1 << 20);
  const received: string[] = [];
  client.on('message', (message) => received.push(message.toString()));
  const all = async (count: number) => {
    while (received.length < count) await once(client, 'message');
    return received;
  };
  return { socket, client, port, received, all };
}

const echo: DatagramHandler = (packet, length, response) => {
  const text = packet.toString('latin1', 0, length);
  return text.startsWith('quiet') ? 0 : response.write(`re:${text}`, 'latin1');
};

for (const address of ['127.0.0.1', '::1']) {
  test(`each datagram gets its own answer, or none (${address})`, async (t) => {
    const { client, port, all, socket } = await pair(t, echo, address);
    const wanted: string[] = [];
    for (let i = 0; i < 200; i++) {
      const text = i % 3 === 0 ? `quiet${i}` : `${i}`;
      if (i % 3 !== 0) wanted.push(`re:${text}`);
      client.send(text, port, address);
    }
    assert.deepEqual((await all(wanted.length)).toSorted(), wanted.toSorted());
    assert.equal(socket.dropped, 0);
  });
}

describe('UdpBatchSocket', () => {
  test('answers may come later, to the sender that was kept', async (t) => {
    const late: [string, Buffer][] = [];
    const { socket, client, port, all } = await pair(t, (packet, length, _response, slot) => {
      late.push([packet.toString('latin1', 0, length), socket.sender(slot)]);
      if (late.length === 3) setImmediate(() => late.forEach(([text, to]) => socket.send(Buffer.from(text), to)));
      return 0;
    });
    for (const text of ['a', 'b', 'c']) client.send(text, port, '127.0.0.1');
    assert.deepEqual((await all(3)).toSorted(), ['a', 'b', 'c']);
    assert.deepEqual(decodeSocketAddress(late[0]![1]), { address: '127.0.0.1', port: client.address().port });
  });

  test('a datagram longer than a slot is cut, and the longest answer is as long as a slot', async (t) => {
    const lengths: number[] = [];
    const { client, port, all } = await pair(t, (_packet, length, response) => {
      lengths.push(length);
      response.fill('x');
      return SLOT_BYTES;
    });
    client.send(Buffer.alloc(SLOT_BYTES + 1000), port, '127.0.0.1');
    const [answer] = await all(1);
    assert.equal(answer!.length, SLOT_BYTES);
    assert.deepEqual(lengths, [SLOT_BYTES]);
  });

  test('closing inside of a callback, and twice, is harmless; nothing is sent afterwards', async (t) => {
    const done = Promise.withResolvers<Buffer>();
    const { socket, client, port } = await pair(t, (_packet, _length, response, slot) => {
      done.resolve(socket.sender(slot));
      socket.close();
      return response.write('never');
    });
    client.send('x', port, '127.0.0.1');
    socket.send(Buffer.from('late'), await done.promise);
    socket.close();
  });

  test('what the kernel refuses is dropped and counted', async (t) => {
    const { socket } = await pair(t, echo);
    const toPortZero = Buffer.from([2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    socket.send(Buffer.from('x'), toPortZero);
    assert.equal(socket.dropped, 1);
  });
});
