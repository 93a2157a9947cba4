/** What DNS answers teach, and for how long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../../base/clock.ts';
import { nameMatches } from './address-peers.ts';
import { DomainNames, graceMs } from './domain-names.ts';

function lab(most?: number) {
  const clock = new FakeClock();
  const state = new Map<string, readonly string[]>();
  let expirations = 0;
  const names = new DomainNames({
    wants: (name) => name.endsWith('example.com'),
    set: (address, has) => (has.length ? state.set(address, has) : state.delete(address)),
    onExpired: () => expirations++,
    clock,
    ...(most ? { most } : {}),
  });
  return { clock, state, names, expirations: () => expirations };
}

test('names are exact, and a wildcard is one or more whole labels', () => {
  const table: [pattern: string, name: string, matches: boolean][] = [
    ['kubernetes.io', 'kubernetes.io', true],
    ['kubernetes.io', 'www.kubernetes.io', false],
    ['*.kubernetes.io', 'www.kubernetes.io', true],
    ['*.kubernetes.io', 'latest.blog.kubernetes.io', true],
    ['*.kubernetes.io', 'kubernetes.io', false],
    ['*.kubernetes.io', 'my-kubernetes.io', false],
    ['*.kubernetes.io', 'wikipedia.org', false],
  ];
  for (const [pattern, name, matches] of table) assert.equal(nameMatches(pattern, name), matches, `${pattern} ${name}`);
});

test('an address is good for its time to live and a grace', async () => {
  const { clock, state, names, expirations } = lab();
  assert.equal(names.learn(['WWW.Example.com.'], [{ address: '192.0.2.1', ttl: 10 }]), true);
  assert.deepEqual(state.get('192.0.2.1'), ['www.example.com']);
  assert.equal(names.learn(['www.example.com'], [{ address: '192.0.2.1', ttl: 20 }]), false, 'known already');
  await clock.advance(19_000 + graceMs);
  assert.equal(state.size, 1, 'the longer time to live counts');
  await clock.advance(1000);
  assert.equal(state.size, 0);
  assert.equal(expirations(), 1);
});

test('an address with two names keeps the one that is still good', async () => {
  const { clock, state, names } = lab();
  names.learn(['a.example.com'], [{ address: '2001:DB8::1', ttl: 1 }]);
  names.learn(['b.example.com'], [{ address: '2001:db8:0::1', ttl: 100 }]);
  assert.deepEqual(state.get('2001:db8::1'), ['a.example.com', 'b.example.com']);
  await clock.advance(2000 + graceMs);
  assert.deepEqual(state.get('2001:db8::1'), ['b.example.com']);
});

test('names that no policy knows, and what is no address, are not kept', () => {
  const { state, names } = lab();
  assert.equal(names.learn(['example.org'], [{ address: '192.0.2.1', ttl: 1 }]), false);
  assert.equal(names.learn(['example.com'], [{ address: 'nonsense', ttl: 1 }]), false);
  assert.equal(state.size, 0);
});

test('an alias’s target leads to the address too', () => {
  const { state, names } = lab();
  names.learn(['cdn.example.org', 'edge.example.com'], [{ address: '192.0.2.1', ttl: 1 }]);
  assert.deepEqual(state.get('192.0.2.1'), ['edge.example.com']);
});

test('there is a bound, and what would expire first goes first', () => {
  const { state, names } = lab(2);
  names.learn(['example.com'], [{ address: '192.0.2.1', ttl: 50 }]);
  names.learn(['example.com'], [{ address: '192.0.2.2', ttl: 5 }]);
  names.learn(['example.com'], [{ address: '192.0.2.3', ttl: 20 }]);
  assert.deepEqual([...state.keys()], ['192.0.2.1', '192.0.2.3']);
  names.stop();
});
