/** Who is told of addresses from upstream, and when. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tellOfAnswers, tellOfOutside } from './answer-listener.ts';
import { encode, type Handler } from './chain.ts';
import { queryOf, question } from './fixtures.ts';
import { type Answer, bareAnswer, Rcode, type ResourceRecord } from './wire.ts';

const answers = (...records: ResourceRecord[]): Answer => ({ ...bareAnswer(Rcode.noError), answers: records });
const upstream =
  (answer: Answer): Handler =>
  (query, transport) =>
    Promise.resolve(encode(query, transport, answer));
const a = (name: string, address: string, ttl = 60): ResourceRecord => ({ type: 'A', name, address, ttl });

async function told(answer: Answer, name = 'www.example.com') {
  const calls: unknown[] = [];
  const handler = tellOfAnswers(upstream(answer), (names, addresses) => void calls.push({ names, addresses }));
  await handler(queryOf(name, 'A', { id: 1 }), 'udp', question(name, 'A', { id: 1 }));
  return calls;
}

test('the answer waits for the listener', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const handler = tellOfAnswers(upstream(answers(a('www.example.com', '192.0.2.1'))), () => promise);
  let sent = false;
  const response = Promise.resolve(
    handler(queryOf('www.example.com', 'A', { id: 1 }), 'udp', question('www.example.com', 'A', { id: 1 })),
  ).then(() => {
    sent = true;
  });
  await new Promise((next) => setImmediate(next));
  assert.equal(sent, false);
  resolve();
  await response;
});

test('aliases are followed, with the shortest time to live on the way', async () => {
  const alias: ResourceRecord = { type: 'CNAME', name: 'WWW.example.com', target: 'cdn.example.net', ttl: 20 };
  assert.deepEqual(await told(answers(alias, a('CDN.example.net', '192.0.2.1'), a('other.net', '192.0.2.9'))), [
    { names: ['www.example.com', 'cdn.example.net'], addresses: [{ address: '192.0.2.1', ttl: 20 }] },
  ]);
});

test('aliases in a circle end', async () => {
  const circle = (name: string, target: string): ResourceRecord => ({ type: 'CNAME', name, target, ttl: 5 });
  assert.deepEqual(await told(answers(circle('www.example.com', 'b.net'), circle('b.net', 'www.example.com'))), []);
});

test('answers without addresses, and failures, are not told', async () => {
  assert.deepEqual(await told(answers()), []);
  assert.deepEqual(await told({ ...answers(a('www.example.com', '192.0.2.1')), rcode: Rcode.serverFailure }), []);
});

test('where an ExternalName leads to is told too', async () => {
  const calls: unknown[] = [];
  const outside = tellOfOutside(
    () => answers({ type: 'AAAA', name: 'ext.example.com', address: '2001:db8::1', ttl: 7 }),
    (names, addresses) => void calls.push([names, addresses]),
  );
  await outside('ext.example.com', 28);
  assert.deepEqual(calls, [[['ext.example.com'], [{ address: '2001:db8::1', ttl: 7 }]]]);
});
