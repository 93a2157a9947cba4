import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isExists, isNotFound, KernelError } from '../../src/linux/errors.ts';
import { hasLibnftables, Nftables } from '../../src/linux/nftables.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { namespaces, skip as needsRoot } from './linux-fixture.ts';

const skip = needsRoot || (hasLibnftables() ? false : 'needs libnftables (Debian: libnftables1)');
const make = namespaces();

test('run applies a transaction in its own namespace only', { skip }, () => {
  using a = Nftables.open(make('a'));
  using b = Nftables.open(make('b'));
  a.run('table inet t { chain c { type filter hook input priority 0; tcp dport 80 accept; }; }');
  assert.match(a.list('ruleset'), /tcp dport 80 accept/);
  assert.equal(b.list('ruleset'), '');
});

test('a failed transaction leaves nothing behind and carries nft’s words', { skip }, () => {
  using nft = Nftables.open(make('rollback'));
  assert.throws(
    () => nft.run('add table ip kept\nadd rule ip absent chain1 accept'),
    (error) => isNotFound(error) && error instanceof KernelError && /No such file/.test(error.kernelMessage ?? ''),
  );
  assert.equal(nft.list('ruleset'), '');
  nft.run('add table ip kept');
  assert.match(nft.list('ruleset'), /table ip kept/);
});

test('errors have the code of what went wrong', { skip }, () => {
  using nft = Nftables.open(make('codes'));
  nft.run('add table ip t');
  assert.throws(() => nft.run('create table ip t'), isExists);
  assert.throws(() => nft.list('table ip none'), isNotFound);
  assert.throws(() => nft.run('delete table ip none'), isNotFound);
  assert.throws(
    () => nft.run('add rule nonsense'),
    (error) => error instanceof KernelError && error.code === 'EINVAL' && /syntax error/.test(error.message),
  );
  assert.throws(() => nft.run('list ruleset\0flush ruleset'), /NUL/);
});

test('listJson gives objects, and plain lists stay plain afterwards', { skip }, () => {
  using nft = Nftables.open(make('json'));
  nft.run('table ip t { map m { type ipv4_addr : ipv4_addr; elements = { 10.0.0.1 : 10.0.0.2 }; }; }');
  const objects = nft.listJson('map ip t m') as { map?: { name: string; elem: unknown[] } }[];
  assert.deepEqual(objects.find((item) => item.map)?.map?.elem, [['10.0.0.1', '10.0.0.2']]);
  assert.match(nft.list('table ip t'), /^table ip t \{/);
});

test('runAsync keeps the order, reports failures and lets the event loop go on', { skip }, async () => {
  using nft = Nftables.open(make('async'));
  let turns = 0;
  const ticking = setInterval(() => turns++, 1);
  const elements = Array.from({ length: 20_000 }, (_, i) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
  const first = nft.runAsync(`table ip t { set s { type ipv4_addr; elements = { ${elements.join(', ')} }; }; }`);
  const second = nft.runAsync('add rule ip none none accept');
  const third = nft.runAsync('add element ip t s { 192.0.2.1 }');
  await first;
  await assert.rejects(second, isNotFound);
  await third;
  clearInterval(ticking);
  assert.ok(turns > 0);
  nft.run('get element ip t s { 192.0.2.1 }');
});

test('runAsync resolves interface names in the context’s namespace', { skip }, async () => {
  const ns = make('iif');
  using nft = Nftables.open(ns);
  using links = Rtnetlink.open(ns);
  links.createVeth({ name: 'only-here', peer: { name: 'other' } });
  await nft.runAsync('table ip t { chain c { iif "only-here" accept; }; }');
  nft.run('add rule ip t c oif "other" drop');
  assert.match(
    ns.run(() => nft.list('table ip t')),
    /iif "only-here" accept/,
  );
});

test('close while work is queued frees the context afterwards', { skip }, async () => {
  const ns = make('closing');
  const nft = Nftables.open(ns);
  const work = nft.runAsync('add table ip t');
  nft.close();
  await work;
  await work.then(() => new Promise(setImmediate));
  assert.throws(() => nft.run('list ruleset'), /closed/);
  using again = Nftables.open(ns);
  assert.match(again.list('ruleset'), /table ip t/);
});

test('hundreds of transactions in one context do not grow the process', { skip }, () => {
  using nft = Nftables.open(make('leak'));
  nft.run('table ip t { set s { type ipv4_addr; }; }');
  const cycle = (count: number): void => {
    for (let i = 0; i < count; i++) {
      nft.run(`add element ip t s { 10.0.0.${i % 250} }`);
      nft.run(`delete element ip t s { 10.0.0.${i % 250} }`);
      assert.throws(() => nft.run('delete element ip t s { 192.0.2.9 }'));
    }
  };
  cycle(50);
  const before = process.memoryUsage().rss;
  cycle(150);
  const grown = process.memoryUsage().rss - before;
  assert.ok(grown < 16 << 20, `grew by ${grown} bytes`);
});
