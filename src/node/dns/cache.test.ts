import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { AnswerCache } from './cache.ts';
import { createMetrics, encode, type Handler, type Transport } from './chain.ts';
import { decodeQuery } from './decode.ts';
import { type QuestionOptions, question, readResponse } from './fixtures.ts';
import { bareAnswer, Rcode, type ResourceRecord } from './wire.ts';

/** A cache in front of a handler that answers with as many addresses as it is told, numbered by its calls. */
function setUp({ addresses = 1, arenaBytes = 1 << 16, promise = false } = {}) {
  const state = { generation: 0, calls: 0, addresses };
  const counts = createMetrics();
  const cache = new AnswerCache({ generation: () => state.generation, counts, arenaBytes, seed: 1 });
  const handler: Handler = (query, transport) => {
    state.calls++;
    const answers: ResourceRecord[] = Array.from({ length: state.addresses }, (_, i) => ({
      name: query.name,
      ttl: 5,
      type: 'A',
      address: `10.0.${state.calls}.${i}`,
    }));
    const response = encode(query, transport, { ...bareAnswer(Rcode.noError), answers });
    return promise ? Promise.resolve(response) : response;
  };
  const link = cache.link(handler);
  const out = Buffer.alloc(65_535);
  /** As the listener does it: the cache, then the chain. */
  const ask = (packet: Buffer, transport: Transport = 'udp'): Buffer => {
    const found = cache.find(packet, packet.length, transport, out);
    if (found > 0) return Buffer.from(out.subarray(0, found));
    const decoded = decodeQuery(packet);
    assert.ok(decoded.kind === 'query');
    const response = link(decoded.query, transport, packet);
    return Buffer.isBuffer(response) ? response : Buffer.alloc(0);
  };
  const address = (name: string, options?: QuestionOptions, transport?: Transport) =>
    readResponse(ask(question(name, 'A', options), transport)).answers[0]?.data;
  return { state, counts, cache, ask, address };
}

describe('the cache', () => {
  test('answers as the chain did, with the id, the flags and the spelling of this query', () => {
    const { ask, state, counts } = setUp();
    ask(question('web.default', 'A', { id: 1, edns: {} }));
    const packet = question('wEb.DeFault', 'A', { id: 2, edns: {}, recursionDesired: false });
    packet[3]! |= 0x10;
    const again = ask(packet);
    assert.equal(state.calls, 1);
    assert.equal(counts.cacheHits, 1);
    const fresh = encode((decodeQuery(packet) as { query: Parameters<typeof encode>[0] }).query, 'udp', {
      ...bareAnswer(Rcode.noError),
      answers: [{ name: 'web.default', ttl: 5, type: 'A', address: '10.0.1.0' }],
    });
    assert.deepEqual(again, fresh, 'byte for byte what would have been encoded');
    const response = readResponse(again);
    assert.ok(response.flag_cd && !response.flag_rd && response.id === 2);
  });

  test('what differs in the question is another question', () => {
    const { ask, state } = setUp();
    const questions = [
      question('a.b', 'A'),
      question('a.b', 'AAAA'),
      question('a.c', 'A'),
      question('a.b.c', 'A'),
      question('a.b', 'A', { class: 'CH' }),
      question('a.b', 'A', { edns: {} }),
      question('a.b', 'A', { edns: { udpPayloadSize: 512 } }),
      question('a.b', 'A', { edns: { dnssecOk: true } }),
    ];
    for (const one of questions) ask(one);
    assert.equal(state.calls, questions.length);
    for (const one of questions) ask(one);
    assert.equal(state.calls, questions.length);
    ask(questions[0]!, 'tcp');
    assert.equal(state.calls, questions.length + 1);
  });

  test('types that look like letters are not folded', () => {
    const { ask, state } = setUp();
    const packet = question('a.b', 'A');
    const withType = (type: number) => {
      const copy = Buffer.from(packet);
      copy.writeUInt16BE(type, copy.length - 4);
      return copy;
    };
    // HTTPS is 65, "A"; 97 is "a".
    ask(withType(65));
    ask(withType(97));
    assert.equal(state.calls, 2);
  });

  test('forgets everything with each change', () => {
    const { address, state } = setUp();
    assert.equal(address('a'), '10.0.1.0');
    assert.equal(address('a'), '10.0.1.0');
    state.generation++;
    assert.equal(address('a'), '10.0.2.0');
    assert.equal(address('a'), '10.0.2.0');
  });

  test('several records take turns in eight orders; one is kept once', () => {
    const { address, state } = setUp({ addresses: 2 });
    const seen = Array.from({ length: 24 }, () => address('a'));
    assert.equal(state.calls, 8);
    assert.deepEqual(seen.slice(8, 16), seen.slice(0, 8));
    assert.deepEqual(seen.slice(16), seen.slice(0, 8));
  });

  test('a late answer is not kept', () => {
    const { ask, state, cache } = setUp({ promise: true });
    ask(question('a', 'A'));
    ask(question('a', 'A'));
    assert.equal(state.calls, 2);
    assert.equal(cache.size, 0);
  });

  test('stays within its arena and goes on', () => {
    const { address, state, cache } = setUp({ arenaBytes: 1024 });
    for (let i = 0; i < 100; i++) {
      const before = state.calls;
      const first = address(`name-${i}.default`);
      assert.equal(address(`name-${i}.default`), first);
      assert.equal(state.calls, before + 1);
    }
    assert.ok(cache.size > 0 && cache.size < 20);
  });

  test('an answer larger than the arena is not kept', () => {
    const { address, cache, state } = setUp({ arenaBytes: 256, addresses: 50 });
    address('a', {}, 'tcp');
    address('a', {}, 'tcp');
    assert.equal(state.calls, 2);
    assert.equal(cache.size <= 1, true);
  });

  test('messages with anything else in them are left to the chain', () => {
    const { ask, cache } = setUp();
    const plain = question('a.b', 'A', { edns: {} });
    ask(plain);
    const out = Buffer.alloc(4096);
    const find = (packet: Buffer) => cache.find(packet, packet.length, 'udp', out);
    assert.ok(find(plain) > 0);
    const changed = (at: number, value: number) => {
      const copy = Buffer.from(plain);
      copy[at] = value;
      return copy;
    };
    assert.equal(find(changed(2, 0x81)), 0, 'a response');
    assert.equal(find(changed(2, 0x29)), 0, 'another opcode');
    assert.equal(find(changed(5, 2)), 0, 'two questions');
    assert.equal(find(changed(7, 1)), 0, 'an answer');
    assert.equal(find(changed(11, 2)), 0, 'two additional records');
    assert.equal(find(changed(plain.length - 1, 4)), 0, 'an EDNS option');
    assert.equal(find(changed(12, 0xc0)), 0, 'a pointer');
    assert.equal(find(Buffer.concat([plain, Buffer.from([0])])), 0, 'bytes behind it');
    assert.equal(find(plain.subarray(0, plain.length - 1)), 0, 'bytes missing');
  });

  test('takes any bytes, and never answers with what was asked by another', () => {
    const { ask, cache } = setUp();
    const known = ['a.b', 'web.default', 'A.B.c'].map((name) => question(name, 'A', { edns: {} }));
    for (const one of known) ask(one);
    const out = Buffer.alloc(4096);
    const mutated = fc
      .tuple(fc.constantFrom(...known), fc.array(fc.tuple(fc.nat({ max: 60 }), fc.nat({ max: 255 })), { maxLength: 3 }))
      .map(([packet, changes]) => {
        const copy = Buffer.from(packet);
        for (const [at, value] of changes) copy[at % copy.length] = value;
        return copy;
      });
    const any = fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(fc.oneof(mutated, any), (packet) => {
        const length = cache.find(packet, packet.length, 'udp', out);
        if (length === 0) return;
        const decoded = decodeQuery(packet);
        assert.ok(decoded.kind === 'query');
        assert.deepEqual(out.subarray(12, 12 + decoded.query.question.length), decoded.query.question);
        assert.ok(
          known.some((one) => one.toString('latin1', 12).toLowerCase() === packet.toString('latin1', 12).toLowerCase()),
        );
      }),
      { numRuns: 2000 },
    );
  });
});
