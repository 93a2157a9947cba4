import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseCidr, parseIp } from '../../base/ip.ts';
import { AddressTable } from './addresses.ts';
import { blockContains, boxesOf } from './blocks.ts';
import { loadOf, transactionsOf } from './changes.ts';
import { compilePolicy } from './compile.ts';
import { Elements } from './elements.ts';
import { Numbers } from './numbers.ts';
import { type PortRange, type PortSet, portSet, unionPorts } from './ports.ts';
import { policyObject, textOf } from './testing.ts';

const range: fc.Arbitrary<PortRange> = fc
  .record({
    protocol: fc.constantFrom('tcp', 'udp'),
    from: fc.integer({ min: 1, max: 30 }),
    length: fc.integer({ min: 0, max: 9 }),
  })
  .map(({ protocol, from, length }) => ({ protocol, from, to: from + length }));
const ranges = fc.array(range, { maxLength: 8 });

function holds(set: PortSet, protocol: string, port: number): boolean {
  return set.any || set.ranges.some((each) => each.protocol === protocol && each.from <= port && port <= each.to);
}

test('port sets hold what was put in, without overlaps, and unions do not depend on order', () => {
  fc.assert(
    fc.property(ranges, ranges, (a, b) => {
      const union = unionPorts([portSet(a), portSet(b)]);
      assert.equal(union.key, unionPorts([portSet(b), portSet(a)]).key);
      assert.equal(union.key, portSet([...a, ...b]).key);
      for (const protocol of ['tcp', 'udp']) {
        for (let port = 0; port < 45; port++) {
          const wanted = [...a, ...b].some(
            (each) => each.protocol === protocol && each.from <= port && port <= each.to,
          );
          assert.equal(holds(union, protocol, port), wanted);
          const covering = union.ranges.filter(
            (each) => each.protocol === protocol && each.from <= port && port <= each.to,
          );
          assert.ok(covering.length <= 1);
        }
      }
    }),
  );
});

const cidr = fc
  .record({ host: fc.integer({ min: 0, max: 15 }), prefix: fc.integer({ min: 28, max: 32 }) })
  .map(({ host, prefix }) => parseCidr(`10.0.0.${host}/${prefix}`));

test('boxes of blocks are disjoint, in order, and hold what the blocks grant', () => {
  const grants = fc.array(
    fc.record({ block: fc.record({ cidr, except: fc.array(cidr, { maxLength: 3 }) }), ports: ranges.map(portSet) }),
    { maxLength: 5 },
  );
  fc.assert(
    fc.property(grants, (list) => {
      const boxes = boxesOf(list, 4);
      for (const [i, box] of boxes.entries()) if (i > 0) assert.ok(boxes[i - 1]!.range.to < box.range.from);
      for (let host = 0n; host < 16n; host++) {
        const address = (10n << 24n) + host;
        const wanted = unionPorts(
          list.filter(({ block }) => blockContains(block, 4, address)).map(({ ports }) => ports),
        );
        const found = boxes.find(({ range: { from, to } }) => from <= address && address <= to);
        assert.equal(found?.ports.key ?? '', wanted.key);
      }
    }),
  );
});

test('numbers are the same in another order, differ for equal digests, and come back after release', () => {
  const one = new Numbers();
  const other = new Numbers();
  const names = ['a', 'b', 'c'];
  assert.deepEqual(
    names.map((name) => one.acquire(name)),
    names
      .toReversed()
      .map((name) => other.acquire(name))
      .toReversed(),
  );
  const equal = new Numbers(() => 0x3fffffff);
  assert.deepEqual([equal.acquire('a'), equal.acquire('b'), equal.acquire('a')], [0x3fffffff, 16, 0x3fffffff]);
  equal.release('a');
  assert.equal(equal.acquire('c'), 0x3fffffff);
});

test('changes: deletions first, garbage in a transaction of its own', () => {
  const elements = new Elements();
  elements.put('ingress_any', '1:2 . 50');
  elements.put('ingress_any', '1:3 . 50');
  elements.put('identity4', '10.0.0.1', '50');
  assert.equal(elements.take().length, 3);
  elements.put('identity4', '10.0.0.1', '51');
  elements.put('ingress_any', '1:2 . 51');
  elements.delete('ingress_any', '1:3 . 50');
  elements.delete('ingress_any', '1:2 . 50', true);
  const transactions = transactionsOf(elements.take());
  const texts = transactions.map(({ writes }) => textOf(writes));
  assert.deepEqual(texts, [
    'delete element inet podwire-policy identity4 { 10.0.0.1 }\n' +
      'delete element inet podwire-policy ingress_any { 1:3 . 50 }\n' +
      'add element inet podwire-policy identity4 { 10.0.0.1 : 51 }\n' +
      'add element inet podwire-policy ingress_any { 1:2 . 51 }\n',
    'delete element inet podwire-policy ingress_any { 1:2 . 50 }\n',
  ]);
  assert.deepEqual(
    transactions.map(({ size }) => size),
    [4, 1],
  );
  const load = loadOf(elements);
  assert.equal(load.size, 2);
  assert.equal(
    textOf(load.writes),
    'add element inet podwire-policy identity4 { 10.0.0.1 : 51 }\n' +
      'add element inet podwire-policy ingress_any { 1:2 . 51 }\n',
  );
  elements.put('ingress_any', '9:9 . 1');
  elements.delete('ingress_any', '9:9 . 1');
  assert.deepEqual(elements.take(), [], 'what came and went is no change');
});

test('addresses: the plugin’s word before the API’s, two claims are none', () => {
  const table = new AddressTable(() => {});
  const ip = parseIp('10.0.0.1');
  table.claim('old', [ip]);
  assert.deepEqual(table.owner(ip), { uid: 'old' });
  table.claim('new', [ip]);
  assert.equal(table.owner(ip), 'contested');
  table.attach({ uid: 'new', namespace: 'x', name: 'new', addresses: [ip] });
  assert.deepEqual(table.owner(ip), { uid: 'new' });
  const second = parseIp('10.0.0.2');
  table.attach({ uid: 'new', namespace: 'x', name: 'new', addresses: [second] });
  table.detach('new', [ip]);
  assert.deepEqual(table.owner(second), { uid: 'new' }, 'the old sandbox goes, the new one stays');
  table.detach('new', [second]);
  table.claim('new', [ip]);
  assert.deepEqual(table.owner(ip), { uid: 'old' }, 'a detached pod claims nothing any more');
  table.forget('old');
  assert.equal(table.owner(ip), undefined);
});

test('problems of a policy are named by their field', () => {
  const { problems } = compilePolicy(
    policyObject('x/p', {
      podSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] },
      ingress: [
        {
          from: [{}, { ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/8'] } }],
          ports: [{ protocol: 'ICMP' }, { port: 0 }],
        },
      ],
    }),
  );
  assert.deepEqual(
    problems.map(({ field }) => field),
    [
      'spec.podSelector.matchExpressions',
      'spec.ingress[0].from[0]',
      'spec.ingress[0].from[1].ipBlock.except[0]',
      'spec.ingress[0].ports[0].protocol',
      'spec.ingress[0].ports[1].port',
    ],
  );
});
