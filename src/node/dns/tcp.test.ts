import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { listenTcp, type Respond, type TcpLimits } from './tcp.ts';

type Context = { after(fn: () => void): void };

async function serve(t: Context, respond: Respond, limits: Partial<TcpLimits> = {}) {
  const listener = await listenTcp({ address: '127.0.0.1', port: 0, respond, limits });
  t.after(() => listener.close());
  const client = async (): Promise<Socket> => {
    const socket = connect({ port: listener.port, host: '127.0.0.1', allowHalfOpen: true });
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    await once(socket, 'connect');
    return socket;
  };
  return { listener, client };
}

function framed(...messages: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(
    messages.flatMap((message) => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(message.length);
      return [length, Buffer.from(message)];
    }),
  );
}

/** Reads messages until there are as many as wanted, or the connection ends. */
async function messages(socket: Socket, wanted: number): Promise<string[]> {
  let received = Buffer.alloc(0);
  const found: string[] = [];
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    received = Buffer.concat([received, chunk]);
    while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
      const end = 2 + received.readUInt16BE(0);
      found.push(received.toString('latin1', 2, end));
      received = received.subarray(end);
    }
    if (found.length >= wanted) break;
  }
  return found;
}

const echo: Respond = (message) => Buffer.concat([Buffer.from('re:'), message]);

describe('TCP', () => {
  test('one after the other, in pieces, many at once', async (t) => {
    const { client } = await serve(t, echo);
    const socket = await client();
    socket.write(framed('a'));
    assert.deepEqual(await messages(socket, 1), ['re:a']);
    for (const byte of framed('bcd')) socket.write(Buffer.from([byte]));
    assert.deepEqual(await messages(socket, 1), ['re:bcd']);
    const many = Array.from({ length: 500 }, (_, i) => `query-${i}`);
    socket.write(framed(...many));
    assert.deepEqual(
      await messages(socket, 500),
      many.map((one) => `re:${one}`),
    );
  });

  test('answers come as they are ready, not in order (RFC 7766 section 6.2.1.1)', async (t) => {
    const slow = Promise.withResolvers<Buffer>();
    const { client } = await serve(t, (message) => (message.toString() === 'slow' ? slow.promise : message));
    const socket = await client();
    socket.write(framed('slow', 'fast'));
    assert.deepEqual(await messages(socket, 1), ['fast']);
    slow.resolve(Buffer.from('slow'));
    assert.deepEqual(await messages(socket, 1), ['slow']);
  });

  test('no more than the limit of one connection are answered at once, and none is lost', async (t) => {
    let running = 0;
    let most = 0;
    const { client } = await serve(
      t,
      async (message) => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setImmediate(resolve));
        running--;
        return Buffer.from(message);
      },
      { pipelined: 4 },
    );
    const socket = await client();
    const many = Array.from({ length: 100 }, (_, i) => `${i}`);
    socket.write(framed(...many));
    assert.deepEqual((await messages(socket, 100)).toSorted(), many.toSorted());
    assert.equal(most, 4);
  });

  test('a client that does not read is not written for without end', async (t) => {
    let answered = 0;
    const { client } = await serve(t, () => {
      answered++;
      return Buffer.alloc(60_000);
    });
    const socket = await client();
    socket.pause();
    const many = framed(...Array.from({ length: 5000 }, () => 'q'));
    socket.write(many);
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.ok(answered < 2000, `${answered} answers wait for a client that does not read`);
    // And it is served on when it does.
    assert.equal((await messages(socket, 200)).length >= 200, true);
  });

  test('a client that has said everything still gets its answers', async (t) => {
    const { client } = await serve(t, async (message) => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return Buffer.from(message);
    });
    const socket = await client();
    socket.end(framed('a', 'b'));
    assert.deepEqual(await messages(socket, 3), ['a', 'b'], 'and then the connection ends');
  });

  test('what deserves no answer ends the connection', async (t) => {
    const { client } = await serve(t, () => undefined);
    const socket = await client();
    socket.write(framed('x'));
    assert.deepEqual(await messages(socket, 1), []);
  });

  test('an idle connection is closed, also when bytes keep trickling', async (t) => {
    const { client } = await serve(t, echo, { idleMs: 100 });
    const socket = await client();
    // Bytes that are on their way when it is closed make a reset of the close.
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    socket.on('error', () => {});
    socket.resume();
    socket.on('end', () => socket.destroy());
    const drip = setInterval(() => socket.write(Buffer.from([0])), 20);
    t.after(() => clearInterval(drip));
    // Two bytes of length 0 are a complete message, so drip one that never ends.
    socket.write(Buffer.from([0xff, 0xff]));
    await closed;
  });

  test('one client has a bound on its connections, closed ones give room', async (t) => {
    const { client } = await serve(t, echo, { connectionsOfOneClient: 2 });
    const [first, second] = [await client(), await client()];
    assert.deepEqual(await messages(await client(), 1).catch(() => []), [], 'the third is closed at once');
    second.write(framed('a'));
    assert.deepEqual(await messages(second, 1), ['re:a']);
    first.destroy();
    for (;;) {
      const next = await client();
      next.write(framed('b'));
      const got = await messages(next, 1).catch(() => []);
      if (got.length > 0) break;
    }
  });

  test('closing ends what is open', async (t) => {
    const { client, listener } = await serve(t, echo);
    const socket = await client();
    socket.resume();
    const ended = once(socket, 'end').catch(() => {});
    listener.close();
    await ended;
  });

  test('an address that is not here is an error', async () => {
    await assert.rejects(listenTcp({ address: '192.0.2.1', port: 0, respond: echo }), /EADDRNOTAVAIL/);
  });
});
