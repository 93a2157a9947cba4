/** Against upstream servers of this process on 127.0.0.1. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, describe, test } from 'node:test';
import { createMetrics, encode } from './chain.ts';
import { decodeQuery } from './decode.ts';
import { queryOf, question, readResponse } from './fixtures.ts';
import { Forwarder, type Upstream } from './forward.ts';
import { type Answer, bareAnswer, type Query, Rcode } from './wire.ts';

const ends: (() => void)[] = [];
after(() => {
  for (const end of ends) end();
});

const addressed = (query: Query, address = '192.0.2.1'): Answer => ({
  ...bareAnswer(Rcode.noError),
  answers: [{ name: query.name, ttl: 60, type: 'A', address }],
});

interface FakeUpstream extends Upstream {
  readonly ids: number[];
  readonly ports: number[];
}

/** Answers each datagram with what `respond` makes of it, in order; nothing for an empty list. */
async function udpUpstream(respond: (query: Query, packet: Buffer) => Buffer[]): Promise<FakeUpstream> {
  const socket = createSocket('udp4');
  const ids: number[] = [];
  const ports: number[] = [];
  socket.on('message', (packet, from) => {
    const decoded = decodeQuery(packet);
    assert.ok(decoded.kind === 'query');
    ids.push(decoded.query.id);
    ports.push(from.port);
    for (const response of respond(decoded.query, packet)) socket.send(response, from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  ends.push(() => socket.close());
  return { address: '127.0.0.1', port: socket.address().port, ids, ports };
}

async function tcpUpstream(port: number, respond: (query: Query) => Buffer): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      const decoded = decodeQuery(chunk.subarray(2));
      assert.ok(decoded.kind === 'query');
      const response = respond(decoded.query);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(response.length);
      // In pieces, as a network may bring them.
      socket.write(length.subarray(0, 1));
      setImmediate(() => socket.write(Buffer.concat([length.subarray(1), response])));
    });
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => server.close());
}

/** A port where nobody answers. */
async function deafUpstream(): Promise<Upstream> {
  return udpUpstream(() => []);
}

function forwarderTo(upstreams: readonly Upstream[], options: { maxPending?: number } = {}) {
  const counts = createMetrics();
  return { counts, forwarder: new Forwarder({ upstreams, counts, timeoutMs: 150, ...options }) };
}

const packet = question('www.example.com', 'A', { id: 4711 });
const query = queryOf('www.example.com', 'A', { id: 4711 });

describe('forward', () => {
  test("the answer comes back with the client's id; upstream sees others, from other ports", async () => {
    const upstream = await udpUpstream((asked) => [encode(asked, 'udp', addressed(asked))]);
    const { forwarder, counts } = forwarderTo([upstream]);
    for (let i = 0; i < 4; i++) {
      const response = readResponse(await forwarder.handler(query, 'udp', packet));
      assert.equal(response.id, 4711);
      assert.equal(response.answers[0]!.data, '192.0.2.1');
    }
    assert.equal(counts.forwarded, 4);
    assert.ok(new Set(upstream.ids).size > 1);
    assert.ok(new Set(upstream.ports).size > 1);
    assert.equal(packet.readUInt16BE(0), 4711, "the client's packet stays as it was");
  });

  test('spoofed answers are passed over: wrong id, wrong question, no response, garbage', async () => {
    const upstream = await udpUpstream((asked, received) => {
      const good = encode(asked, 'udp', addressed(asked));
      const otherId = Buffer.from(encode(asked, 'udp', addressed(asked, '6.6.6.6')));
      otherId.writeUInt16BE(asked.id ^ 1, 0);
      const otherQuestion = encode(
        { ...asked, question: queryOf('www.example.net', 'A').question },
        'udp',
        addressed(asked, '6.6.6.6'),
      );
      return [otherId, otherQuestion, received, Buffer.from('garbage'), good];
    });
    const { forwarder } = forwarderTo([upstream]);
    const response = readResponse(await forwarder.handler(query, 'udp', packet));
    assert.equal(response.answers[0]!.data, '192.0.2.1');
  });

  test('datagrams of others never arrive', async () => {
    const spoofer = createSocket('udp4');
    ends.push(() => spoofer.close());
    const upstream = await udpUpstream((asked) => {
      const bad = encode(asked, 'udp', addressed(asked, '6.6.6.6'));
      spoofer.send(bad, upstream.ports.at(-1)!, '127.0.0.1');
      return [];
    });
    const { forwarder } = forwarderTo([upstream]);
    await assert.rejects(async () => forwarder.handler(query, 'udp', packet), /did not answer/);
  });

  test('the next server is asked when one is silent or not there', async () => {
    const closed = await deafUpstream();
    const good = await udpUpstream((asked) => [encode(asked, 'udp', addressed(asked))]);
    const nobody = { address: '127.0.0.1', port: 1 };
    const { forwarder } = forwarderTo([nobody, closed, good]);
    const response = readResponse(await forwarder.handler(query, 'udp', packet));
    assert.equal(response.answers[0]!.data, '192.0.2.1');
  });

  test('nobody there: the query fails, over UDP and TCP, and nothing else does', async () => {
    const { forwarder } = forwarderTo([{ address: '127.0.0.1', port: 1 }]);
    await assert.rejects(async () => forwarder.handler(query, 'udp', packet), /ECONNREFUSED/);
    await assert.rejects(async () => forwarder.handler(query, 'tcp', packet), /ECONNREFUSED/);
  });

  test('a bound on what is on its way', async () => {
    const { forwarder } = forwarderTo([await deafUpstream()], { maxPending: 2 });
    const waiting = [forwarder.handler(query, 'udp', packet), forwarder.handler(query, 'udp', packet)];
    await assert.rejects(async () => forwarder.handler(query, 'udp', packet), /more than 2 queries/);
    for (const one of await Promise.allSettled(waiting)) assert.equal(one.status, 'rejected');
    await assert.rejects(async () => forwarder.handler(query, 'udp', packet), /did not answer/);
  });

  test('a refusal without a question is an answer', async () => {
    const upstream = await udpUpstream((asked) => {
      const header = Buffer.alloc(12);
      header.writeUInt16BE(asked.id, 0);
      header.writeUInt16BE(0x8105, 2);
      return [header];
    });
    const response = await forwarderTo([upstream]).forwarder.handler(query, 'udp', packet);
    assert.equal(readResponse(response).rcode, 'REFUSED');
  });

  test('TCP goes on over TCP, and aliases go there when the answer is cut', async () => {
    const upstream = await udpUpstream((asked) => {
      const cut = encode(asked, 'udp', bareAnswer(Rcode.noError));
      cut[2]! |= 0x02;
      return [cut];
    });
    await tcpUpstream(upstream.port, (asked) => encode(asked, 'tcp', addressed(asked, '192.0.2.9')));
    const { forwarder } = forwarderTo([upstream]);
    const overTcp = readResponse(await forwarder.handler(query, 'tcp', packet));
    assert.deepEqual([overTcp.id, overTcp.answers[0]!.data], [4711, '192.0.2.9']);
    const overUdp = readResponse(await forwarder.handler(query, 'udp', packet));
    assert.ok(overUdp.flag_tc, 'the client itself is told to come over TCP');
    const outside = await forwarder.outside('www.example.com', 1);
    assert.deepEqual(outside.answers, [{ name: 'www.example.com', ttl: 60, type: 'A', address: '192.0.2.9' }]);
  });
});
