/** Garbage, floods and awkward clients: the server answers the next good query. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { DnsLab } from './dns-lab.ts';
import { namespaces, skip } from './linux-fixture.ts';

const makeNamespace = namespaces();
let lab: DnsLab;
before(async () => {
  if (!skip) lab = await DnsLab.start(makeNamespace('dns'));
});
after(() => lab?.stop());

/** What the attacking processes share. It runs inside the namespace and prints what it wants to say. */
const PRELUDE = `
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { randomBytes } from 'node:crypto';
const SERVER = '10.96.0.10';
function query(name, id = 1, type = 1) {
  const labels = name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  const packet = Buffer.concat([Buffer.from('000001000001000000000000', 'hex'), ...labels, Buffer.from([0, 0, type, 0, 1])]);
  packet.writeUInt16BE(id, 0);
  return packet;
}
function framed(message) {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}
const GOOD = 'my-service.default.svc.cluster.local';
/** Asks over UDP until there is an answer: a flood may have taken the room. */
async function check() {
  const socket = createSocket('udp4');
  socket.connect(53, SERVER);
  await once(socket, 'connect');
  const answered = once(socket, 'message');
  const again = setInterval(() => socket.send(query(GOOD, 4711)), 100);
  socket.send(query(GOOD, 4711));
  const [message] = await answered;
  clearInterval(again);
  socket.close();
  return message.readUInt16BE(0) === 4711 && message.includes(Buffer.from([10, 96, 0, 50]));
}
async function tcp() {
  const socket = connect(53, SERVER);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}
/** Reads messages until there are as many as wanted or the connection ends. */
async function messages(socket, wanted) {
  let received = Buffer.alloc(0);
  const found = [];
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    received = Buffer.concat([received, chunk]);
    while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
      const end = 2 + received.readUInt16BE(0);
      found.push(received.subarray(2, end));
      received = received.subarray(end);
    }
    if (found.length >= wanted) break;
  }
  return found;
}
`;

async function attack(source: string): Promise<string> {
  const { stdout, code } = await lab.node(`${PRELUDE}${source}\nconsole.log(await check());\nprocess.exit(0);`);
  assert.equal(code, 0, stdout);
  assert.ok(lab.alive, 'the server has ended');
  const lines = stdout.trim().split('\n');
  assert.equal(lines.pop(), 'true', `the server does not answer any more: ${stdout}`);
  return lines.join('\n');
}

describe('hostile clients', { skip }, () => {
  test('10,000 random datagrams', async () => {
    await attack(`
      const socket = createSocket('udp4');
      socket.connect(53, SERVER);
      await once(socket, 'connect');
      const good = query(GOOD);
      for (let i = 0; i < 10_000; i++) {
        const noise = randomBytes(i % 600);
        // A third looks like a query: a good header before noise, or a good query with noise in it.
        if (i % 3 === 0) good.copy(noise, 0, 0, 12);
        else if (i % 3 === 1 && noise.length > 0) good.copy(noise, 0, 0, 12 + (noise[0] % good.length));
        socket.send(noise);
        if (i % 50 === 49) await new Promise((resolve) => setTimeout(resolve, 1));
      }
    `);
    const metrics = await lab.metrics();
    assert.ok(Number(metrics['malformed']) > 3000, JSON.stringify(metrics));
  });

  test('garbage over TCP', async () => {
    await attack(`
      for (let i = 0; i < 100; i++) {
        const socket = await tcp();
        socket.resume();
        socket.write(randomBytes(i * 50));
        socket.write(framed(randomBytes(i)));
        if (i % 2) socket.destroy();
        else socket.resetAndDestroy();
      }
    `);
  });

  test('many queries at once over one connection, in pieces, each answered', async () => {
    const output = await attack(`
      const socket = await tcp();
      const all = Buffer.concat(Array.from({ length: 2000 }, (_, id) => framed(query(GOOD, id))));
      let at = 0;
      const feed = () => {
        if (at >= all.length) return;
        const end = at + 1 + Math.floor(Math.random() * 3000);
        socket.write(all.subarray(at, end), feed);
        at = end;
      };
      feed();
      const answers = await messages(socket, 2000);
      console.log(new Set(answers.map((answer) => answer.readUInt16BE(0))).size);
    `);
    assert.equal(output, '2000');
  });

  test('a client that asks much and reads nothing', async () => {
    await attack(`
      const sockets = [];
      for (let i = 0; i < 20; i++) {
        const socket = await tcp();
        socket.pause();
        socket.write(Buffer.concat(Array.from({ length: 2000 }, (_, id) => framed(query('many.default.svc.cluster.local', id)))));
        sockets.push(socket);
      }
      await new Promise((resolve) => setTimeout(resolve, 300));
    `);
  });

  test('more connections of one client than it may have', async () => {
    const output = await attack(`
      const sockets = await Promise.all(Array.from({ length: 80 }, tcp));
      const answered = await Promise.all(
        sockets.map(async (socket) => {
          socket.write(framed(query(GOOD)));
          return (await messages(socket, 1).catch(() => [])).length;
        }),
      );
      console.log(answered.reduce((sum, one) => sum + one));
      sockets.forEach((socket) => socket.destroy());
    `);
    assert.equal(output, '50');
  });

  test('a flood of names that are not there', async () => {
    await attack(`
      const socket = createSocket('udp4');
      socket.connect(53, SERVER);
      await once(socket, 'connect');
      for (let i = 0; i < 20_000; i++) {
        socket.send(query('x' + i + '.' + 'y'.repeat(60) + '.default.svc.cluster.local', i));
        if (i % 100 === 99) await new Promise((resolve) => setTimeout(resolve, 1));
      }
    `);
  });
});
