import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIp, parseIp } from '../../base/ip.ts';
import { formatRange } from '../../base/ip-range.ts';
import type { Service } from '../../kube/types.ts';
import { service as makeService } from '../fixtures.ts';
import { AddressBook } from './address-book.ts';
import { assignAddresses } from './assignment.ts';
import { parsePools, poolContains } from './pools.ts';

const options = { defaults: ['172.18.200.0/24', 'fd00:18::c8:0/112'], reserved: ['10.244.0.0/16'] };
const shown = (text: string | undefined) => {
  const { pools, problems } = parsePools(text, options);
  return { pools: pools.map(({ name, ranges }) => `${name}: ${ranges.map(formatRange).join(' ')}`), problems };
};
const DEFAULT = 'default: 172.18.200.1-172.18.200.254 fd00:18::c8:1-fd00:18::c8:ffff';

test('pools of the ConfigMap beside the default one', () => {
  assert.deepEqual(shown(undefined), { pools: [DEFAULT], problems: [] });
  assert.deepEqual(shown(''), { pools: [DEFAULT], problems: [] });
  const text = `
- name: public
  addresses: [172.18.201.0/29, "172.18.202.1-172.18.202.2"]
- { name: asked, addresses: [172.18.203.7], autoAssign: false }`;
  assert.deepEqual(shown(text), {
    pools: ['public: 172.18.201.1-172.18.201.6 172.18.202.1-172.18.202.2', 'asked: 172.18.203.7', DEFAULT],
    problems: [],
  });
  assert.deepEqual(shown('[{name: default, addresses: [172.18.9.1]}]').pools, ['default: 172.18.9.1']);
});

test('what is wrong is told and left out, the rest counts', () => {
  const cases: [string, RegExp][] = [
    ['{', /pools: is not YAML/],
    ['name: x', /pools: must be a list/],
    ['[7]', /pools\[0\]: must be an object/],
    ['[{name: x}]', /pools\[0\]\.addresses: must be a list/],
    ['[{name: X, addresses: [1.2.3.4]}]', /pools\[0\]\.name/],
    ['[{name: x, addresses: [1.2.3.4], colour: red}]', /pools\[0\]\.colour: unknown field/],
    ['[{name: x, addresses: [1.2.3.4], autoAssign: 3}]', /autoAssign/],
    ['[{name: x, addresses: [nonsense]}]', /pools\[0\]\.addresses\[0\]: not a CIDR/],
    ['[{name: x, addresses: [10.244.3.0/24]}]', /10\.244\.0\.0\/16 cannot be announced/],
    ['[{name: x, addresses: [0.0.0.0/0]}]', /cannot be announced/],
    ['[{name: x, addresses: [ff02::/16]}]', /cannot be announced/],
    ['[{name: x, addresses: [172.18.9.1]}, {name: x, addresses: [172.18.9.2]}]', /two of this name/],
    ['[{name: x, addresses: [172.18.200.7]}]', /pool default: overlaps pool x/],
  ];
  for (const [text, message] of cases) {
    const { problems } = shown(text);
    assert.match(problems.join('\n'), message, text);
  }
  assert.deepEqual(shown('[{name: a, addresses: [172.18.9.1]}, 7]').pools, ['a: 172.18.9.1', DEFAULT]);
});

test('whatever the text is, parsing gives pools and problems', () => {
  fc.assert(fc.property(fc.string(), (text) => void parsePools(text, options)));
});

function lab(text?: string, excluded: readonly string[] = []) {
  const book = new AddressBook();
  book.setPools(parsePools(text, options).pools);
  return {
    book,
    assign: (one: Service, keepStrays = false) =>
      assignAddresses(one, { book, excluded: new Set(excluded), keepStrays }),
  };
}
const balanced = (name: string, spec: Partial<Service['spec']> = {}) =>
  makeService(name, { type: 'LoadBalancer', ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack', ...spec });

test('one address of each family, stable, in the order of the families', () => {
  const { assign } = lab();
  const dual = balanced('a', { ipFamilies: ['IPv6', 'IPv4'], ipFamilyPolicy: 'PreferDualStack' });
  assert.deepEqual(assign(dual).addresses, ['fd00:18::c8:1', '172.18.200.1']);
  assert.deepEqual(assign(dual).addresses, ['fd00:18::c8:1', '172.18.200.1']);
  assert.deepEqual(assign(balanced('b')).addresses, ['172.18.200.2']);
  const single = assign(balanced('a', { ipFamilies: ['IPv6'] }));
  assert.deepEqual([single.addresses, single.released], [['fd00:18::c8:1'], ['172.18.200.1']]);
});

test('RequireDualStack: both or none; PreferDualStack: what there is', () => {
  const text = '[{name: default, addresses: [172.18.9.1-172.18.9.9]}]';
  const families = { ipFamilies: ['IPv4', 'IPv6'] };
  const required = lab(text).assign(balanced('a', { ...families, ipFamilyPolicy: 'RequireDualStack' }));
  assert.deepEqual([required.addresses, required.problems], [[], ['no pool has IPv6 addresses']]);
  const preferred = lab(text).assign(balanced('a', { ...families, ipFamilyPolicy: 'PreferDualStack' }));
  assert.deepEqual([preferred.addresses, preferred.problems], [['172.18.9.1'], []]);
});

test('spec.loadBalancerIP', () => {
  const { assign } = lab(undefined, ['172.18.200.5']);
  const ask = (name: string, loadBalancerIP: string, rest: Partial<Service['spec']> = {}) => {
    const { addresses, problems } = assign(balanced(name, { loadBalancerIP, ...rest }));
    return [addresses, problems];
  };
  assert.deepEqual(ask('a', '172.18.200.77'), [['172.18.200.77'], []]);
  assert.deepEqual(ask('b', '172.18.200.77'), [[], ['spec.loadBalancerIP 172.18.200.77 belongs to Service default/a']]);
  assert.deepEqual(ask('b', '8.8.8.8'), [[], ['spec.loadBalancerIP 8.8.8.8 is in no pool']]);
  assert.deepEqual(ask('b', '172.18.200.5'), [[], ["spec.loadBalancerIP 172.18.200.5 is a node's own address"]]);
  assert.match(String(ask('b', 'nonsense')[1]), /is not an IP address/);
  assert.match(String(ask('b', 'fd00:18::c8:7')[1]), /family that the Service does not have/);
  const dual = { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'RequireDualStack' };
  assert.deepEqual(ask('c', 'FD00:18::C8:7', dual), [['172.18.200.1', 'fd00:18::c8:7'], []]);
  assert.deepEqual(ask('a', '172.18.200.78'), [['172.18.200.78'], []], 'a new wish');
  assert.deepEqual(ask('a', '8.8.8.8'), [['172.18.200.78'], ['spec.loadBalancerIP 8.8.8.8 is in no pool']], 'kept');
});

test('used up, released, and what was released comes last', () => {
  const { assign, book } = lab('[{name: default, addresses: [172.18.9.1-172.18.9.3]}]');
  const got = (name: string) => assign(balanced(name)).addresses[0];
  assert.deepEqual(['a', 'b'].map(got), ['172.18.9.1', '172.18.9.2']);
  book.releaseAll('default/a');
  assert.equal(got('c'), '172.18.9.3');
  assert.equal(got('d'), '172.18.9.1');
  assert.deepEqual(assign(balanced('e')).problems, ['all IPv4 addresses of the pools are taken']);
});

test('an address outside all pools is replaced, unless the pools are in doubt', () => {
  const { assign, book } = lab();
  book.take(parseIp('172.18.44.4'), 'default/a');
  assert.deepEqual(assign(balanced('a'), true).addresses, ['172.18.44.4']);
  const { addresses, released } = assign(balanced('a'));
  assert.deepEqual([addresses, released], [['172.18.200.1'], ['172.18.44.4']]);
});

test('no address is ever given twice, and none outside its pools', () => {
  const step = fc.record({
    service: fc.nat(12),
    release: fc.boolean(),
    dual: fc.boolean(),
    ask: fc.option(fc.nat(15)),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { assign, book } = lab('[{name: default, addresses: [172.18.9.0-172.18.9.7, "fd00::/126"]}]');
      const { pools } = parsePools('[{name: default, addresses: [172.18.9.0-172.18.9.7, "fd00::/126"]}]', options);
      const owned = new Map<string, readonly string[]>();
      for (const { service, release, dual, ask } of steps) {
        const name = `s${service}`;
        if (release) {
          book.releaseAll(`default/${name}`);
          owned.delete(name);
          continue;
        }
        const wish = ask === null ? {} : { loadBalancerIP: formatIp(4, 0xac120900n + BigInt(ask)) };
        const families = dual ? { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'PreferDualStack' } : {};
        owned.set(name, assign(balanced(name, { ...wish, ...families })).addresses);
        const all = [...owned.values()].flat();
        assert.equal(new Set(all).size, all.length);
        for (const address of all) assert.ok(pools.some((pool) => poolContains(pool, parseIp(address))));
      }
    }),
    { numRuns: 100 },
  );
});
