import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode, isBusy, isExists, isNotFound, KernelError } from '../../src/linux/errors.ts';
import { hasLibnftables, Nftables } from '../../src/linux/nftables.ts';
import { SetElements, type SetLayout } from '../../src/linux/set-elements.ts';
import { namespaces, skip as needsRoot } from './linux-fixture.ts';

const skip = needsRoot || (hasLibnftables() ? false : 'needs libnftables (Debian: libnftables1)');
const make = namespaces();

const TABLES = [4, 6]
  .map((family) => {
    const [ip, address] = family === 4 ? ['ip', 'ipv4_addr'] : ['ip6', 'ipv6_addr'];
    const key = `${address} . inet_proto . inet_service`;
    return `table ${ip} t {
  map services { type ${key} : mark; }
  map endpoints { type ${key} . mark : ${address} . inet_service; }
  set allowed { type ${key} . ${address}; flags interval; }
  set clients { type ${address}; flags timeout; }
  map dispatch { type mark : verdict; }
  chain one { }
  chain two { }
}
`;
  })
  .join('');

function layouts(family: 4 | 6) {
  const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  const key = [address, 'inet_proto', 'inet_service'] as const;
  const set = (name: string, fields: SetLayout['key'], value?: SetLayout['value']): SetLayout => ({
    family,
    table: 't',
    name,
    key: fields,
    value,
  });
  return {
    services: set('services', key, ['mark']),
    endpoints: set('endpoints', [...key, 'mark'], [address, 'inet_service']),
    allowed: { ...set('allowed', [...key, address]), interval: true },
    clients: set('clients', [address]),
    dispatch: set('dispatch', ['mark'], 'verdict'),
  };
}

const ELEMENTS = {
  4: {
    services: ['10.96.0.1 . tcp . 80 : 0x40000002', '10.96.0.2 . udp . 53 : 1'],
    endpoints: ['10.96.0.1 . tcp . 80 . 0 : 10.244.0.2 . 8080', '10.96.0.1 . tcp . 80 . 8388608 : 10.244.1.2 . 8080'],
    allowed: ['203.0.113.1 . tcp . 80 . 198.51.100.0/24', '203.0.113.1 . tcp . 80 . 10.0.0.7'],
    dispatch: ['0x1 : goto one', '0x2 : jump two', '0x3 : drop'],
  },
  6: {
    services: ['fd00::1 . tcp . 80 : 0x40000002', 'fd00::2 . udp . 53 : 1'],
    endpoints: ['fd00::1 . tcp . 80 . 0 : fd01::2 . 8080', 'fd00::1 . tcp . 80 . 8388608 : fd01:1:2:3::2 . 8080'],
    allowed: ['fd00::1 . tcp . 80 . 2001:db8::/64', 'fd00::1 . tcp . 80 . 2001:db8:1::7'],
    dispatch: ['0x1 : goto one', '0x2 : jump two', '0x3 : drop'],
  },
} as const;
const NAMES = ['services', 'endpoints', 'allowed', 'dispatch'] as const;

function open(name: string): { nft: Nftables; elements: SetElements } {
  const ns = make(name);
  const nft = Nftables.open(ns);
  nft.run(TABLES);
  return { nft, elements: SetElements.open(ns) };
}

for (const family of [4, 6] as const) {
  const sets = layouts(family);
  const table = family === 4 ? 'ip t' : 'ip6 t';

  test(`IPv${family}: what is written raw is what nft would have written, and each deletes the other's`, {
    skip,
  }, () => {
    const raw = open(`raw${family}`);
    const text = open(`text${family}`);
    raw.elements.commit(NAMES.map((name) => ({ op: 'add', set: sets[name], elements: ELEMENTS[family][name] })));
    for (const name of NAMES) {
      text.nft.run(`add element ${table} ${name} { ${ELEMENTS[family][name].join(', ')} }`);
    }
    const listing = text.nft.list(`table ${table}`);
    assert.equal(raw.nft.list(`table ${table}`), listing);
    assert.match(listing, family === 4 ? /198\.51\.100\.0\/24/ : /2001:db8::\/64/);
    for (const name of NAMES) raw.nft.run(`delete element ${table} ${name} { ${ELEMENTS[family][name].join(', ')} }`);
    text.elements.commit(NAMES.map((name) => ({ op: 'delete', set: sets[name], elements: ELEMENTS[family][name] })));
    assert.equal(raw.nft.list(`table ${table}`), text.nft.list(`table ${table}`));
    assert.doesNotMatch(raw.nft.list(`table ${table}`), /elements/);
  });
}

const { services, endpoints, clients, dispatch } = layouts(4);

// Sets of a table of both families, as NetworkPolicy has them: fields in the machine's order, ranges in any field, counters.
const INET = `table inet t {
  map classes { type ipv6_addr : classid; }
  set pairs { typeof meta priority . meta mark . meta l4proto . th dport; }
  set blocks { typeof meta priority . ip saddr; flags interval; }
  set ranges { typeof meta priority . meta mark . meta l4proto . th dport; flags interval; }
  map verdicts { typeof meta priority . ip6 daddr . meta l4proto . th dport : meta mark; flags interval; }
  set counted { type classid; counter; }
  set marks { type mark; counter; }
  chain c {
    meta priority . ip saddr @blocks accept
    meta priority . meta mark . meta l4proto . th dport @ranges accept
    meta mark set meta priority . ip6 daddr . meta l4proto . th dport map @verdicts
  }
}
`;

const inet = (
  name: string,
  key: SetLayout['key'],
  more: Partial<Pick<SetLayout, 'value' | 'interval'>> = {},
): SetLayout => ({ family: 'inet', table: 't', name, key, ...more });
const INET_SETS = [
  { set: inet('classes', ['ipv6_addr'], { value: ['classid'] }), elements: ['fd00::1 : 1:2f', 'fd00::2 : 0:1'] },
  { set: inet('pairs', ['classid', 'mark', 'inet_proto', 'inet_service']), elements: ['1:2f . 77 . 6 . 80'] },
  {
    set: inet('blocks', ['classid', 'ipv4_addr'], { interval: true }),
    elements: ['1:2f . 10.0.0.0-10.0.0.9', '1:2f . 10.0.0.10-10.0.0.10', 'ffff:1 . 0.0.0.0-255.255.255.255'],
  },
  {
    set: inet('ranges', ['classid', 'mark', 'inet_proto', 'inet_service'], { interval: true }),
    elements: ['1:2f . 77 . 6 . 80-90', '1:2f . 77 . 17 . 80-90', '1:2f . 78 . 6 . 80-90'],
  },
  {
    set: inet('verdicts', ['classid', 'ipv6_addr', 'inet_proto', 'inet_service'], { value: ['mark'], interval: true }),
    elements: ['1:2f . fd00::-fd00::ffff . 6 . 0-65535 : 2', '1:2f . fd01::1-fd01::1 . 6 . 80-80 : 0x80000011'],
  },
  { set: inet('counted', ['classid']), elements: ['1:2f', '0:1'] },
  { set: inet('marks', ['mark']), elements: ['0x80000011'] },
] as const;

test('inet: ranges of any field and counted elements are what nft would have written', { skip }, () => {
  const [raw, text] = ['rawinet', 'textinet'].map((name) => {
    const ns = make(name);
    const nft = Nftables.open(ns);
    nft.run(INET);
    return { nft, elements: SetElements.open(ns) };
  }) as [ReturnType<typeof open>, ReturnType<typeof open>];
  raw.elements.commit(INET_SETS.map(({ set, elements }) => ({ op: 'add', set, elements })));
  for (const { set, elements } of INET_SETS) text.nft.run(`add element inet t ${set.name} { ${elements.join(', ')} }`);
  const listing = text.nft.list('table inet t');
  assert.equal(raw.nft.list('table inet t'), listing);
  assert.match(listing, /0:1 counter packets 0/);
  const changed = INET_SETS.map(({ set, elements }) => ({ op: 'delete' as const, set, elements }));
  text.elements.commit(changed);
  assert.doesNotMatch(text.nft.list('table inet t'), /elements/);
  // All of it away and back again, and other bounds in the place of old ones, at once.
  const { set: blocks } = INET_SETS[2];
  raw.elements.commit([
    ...changed.map(({ set }) => ({ op: 'delete' as const, set, elements: 'all' as const })),
    ...INET_SETS.map(({ set, elements }) => ({ op: 'add' as const, set, elements })),
    { op: 'delete', set: blocks, elements: ['1:2f . 10.0.0.0-10.0.0.9'] },
    { op: 'add', set: blocks, elements: ['1:2f . 10.0.0.0-10.0.0.5', '1:2f . 10.0.0.6-10.0.0.9'] },
  ]);
  const lines = listing.replace('10.0.0.0-10.0.0.9', '10.0.0.0-10.0.0.5, 1:2f . 10.0.0.6-10.0.0.9');
  assert.equal(sorted(raw.nft.list('table inet t')), sorted(lines));
  assert.throws(
    () => raw.elements.commit([{ op: 'add', set: blocks, elements: ['1:2f . 10.0.0.4-10.0.0.7'] }]),
    (error) =>
      error instanceof KernelError && /inet t blocks \{ 1:2f \. 10\.0\.0\.4-10\.0\.0\.7 \}/.test(error.operation),
    'what overlaps partly is refused',
  );
});

test('what is asked without nft is what nft says: chains, counters, counters of elements', { skip }, async () => {
  const ns = make('questions');
  const nft = Nftables.open(ns);
  const { elements } = nft;
  const place = { family: 'inet', table: 't' } as const;
  assert.equal(elements.hasChain(place, 'c'), false);
  assert.throws(() => elements.counter(place, 'n'), isNotFound);
  assert.throws(() => elements.counters(inet('counted', ['classid'])), isNotFound);
  nft.run(INET);
  nft.run('add counter inet t n { packets 5000000000 bytes 6 }');
  const many = Array.from(
    { length: 3000 },
    (_, n) => `0x${(n + 0x80000000).toString(16)} counter packets ${n} bytes 1`,
  );
  nft.run(`add element inet t marks { ${many.join(', ')} }`);
  nft.run('add element inet t counted { 1:2f counter packets 7 bytes 9, 0:1 }');
  assert.equal(elements.hasChain(place, 'c'), true);
  assert.equal(elements.hasChain(place, 'd'), false);
  assert.equal(elements.hasChain({ family: 4, table: 't' }, 'c'), false);
  assert.equal(elements.counter(place, 'n'), 5_000_000_000);
  assert.throws(() => elements.counter(place, 'm'), isNotFound);
  assert.deepEqual([...elements.counters(inet('counted', ['classid']))].sort(), [
    ['0:1', 0],
    ['1:2f', 7],
  ]);
  const counts = elements.counters(inet('marks', ['mark']));
  assert.equal(counts.size, 3000);
  for (let n = 0; n < 3000; n++) assert.equal(counts.get(String(n + 0x80000000)), n);
  assert.deepEqual(elements.counters(inet('pairs', ['classid', 'mark', 'inet_proto', 'inet_service'])), new Map());
  const set = inet('classes', ['ipv6_addr'], { value: ['classid'] });
  const working = elements.commitAsync([{ op: 'add', set, elements: ['fd00::1 : 1:1'] }]);
  await Promise.resolve();
  assert.throws(() => elements.hasChain(place, 'c'), isBusy);
  assert.throws(() => elements.counters(inet('counted', ['classid'])), isBusy);
  await working;
  assert.equal(elements.hasChain(place, 'c'), true);
});

/** nft lists elements in the order of the kernel's memory. */
function sorted(listing: string): string {
  return listing
    .split(/[,\n{}]/)
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .sort()
    .join('\n');
}

test('a transaction empties a set and fills it anew at once', { skip }, () => {
  const { nft, elements } = open('refill');
  elements.commit([{ op: 'add', set: services, elements: ELEMENTS[4].services }]);
  elements.commit([
    { op: 'delete', set: services, elements: 'all' },
    { op: 'add', set: services, elements: ['10.96.0.1 . tcp . 80 : 7'] },
  ]);
  assert.deepEqual(elementsIn(nft.list('map ip t services')), ['10.96.0.1 . tcp . 80 : 0x00000007']);
});

test('a refused transaction changes nothing and names the element', { skip }, () => {
  const { nft, elements } = open('refused');
  elements.commit([{ op: 'add', set: services, elements: ELEMENTS[4].services }]);
  const before = nft.list('table ip t');
  const add = { op: 'add', set: endpoints, elements: ELEMENTS[4].endpoints } as const;
  const named = (pattern: RegExp) => (error: unknown) => error instanceof KernelError && pattern.test(error.operation);
  assert.throws(
    () =>
      elements.commit([
        add,
        { op: 'delete', set: services, elements: ['10.96.0.2 . udp . 53', '10.96.0.9 . tcp . 1'] },
      ]),
    (error) => isNotFound(error) && named(/^delete element ip t services \{ 10\.96\.0\.9 \. tcp \. 1 \}$/)(error),
  );
  assert.throws(
    () => elements.commit([{ op: 'add', set: services, elements: ['10.96.0.1 . tcp . 80 : 3'] }, add]),
    (error) => isExists(error) && named(/^add element ip t services \{ 10\.96\.0\.1 \. tcp \. 80 : 3 \}$/)(error),
  );
  assert.throws(
    () => elements.commit([add, { op: 'add', set: dispatch, elements: ['0x9 : goto nowhere'] }]),
    (error) => isNotFound(error) && named(/dispatch \{ 9 : goto nowhere \}$/)(error),
  );
  assert.throws(
    () =>
      elements.commit([{ op: 'add', set: { ...services, name: 'absent' }, elements: ['10.96.0.1 . tcp . 80 : 3'] }]),
    (error) => isNotFound(error) && named(/^add elements of ip t absent$/)(error),
  );
  // A layout that is not the set's.
  assert.throws(
    () => elements.commit([{ op: 'add', set: { ...services, key: ['ipv4_addr'] }, elements: ['10.0.0.1 : 3'] }]),
    (error) => hasCode(error, 'EINVAL'),
  );
  assert.equal(nft.list('table ip t'), before);
  elements.commit([add]);
  assert.equal(elementsIn(nft.list('map ip t endpoints')).length, 2);
});

test('an element with a timeout goes by itself', { skip }, async () => {
  const { nft, elements } = open('timeout');
  elements.commit([{ op: 'add', set: clients, elements: ['10.0.0.1'], timeoutMs: 100 }]);
  assert.match(nft.list('set ip t clients'), /10\.0\.0\.1 timeout 100ms/);
  for (let i = 0; i < 100 && /10\.0\.0\.1/.test(nft.list('set ip t clients')); i++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  assert.doesNotMatch(nft.list('set ip t clients'), /10\.0\.0\.1/);
});

test('100,000 elements are one transaction, in a pool thread, and nothing of it stays when one is refused', {
  skip,
}, async () => {
  const { nft, elements } = open('many');
  const many = Array.from({ length: 100_000 }, (_, n) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255} . tcp . 80 : 1`);
  const bad = elements.commitAsync([
    { op: 'add', set: services, elements: many },
    { op: 'delete', set: services, elements: ['192.0.2.1 . tcp . 1'] },
  ]);
  await Promise.resolve();
  assert.throws(() => elements.commit([{ op: 'add', set: services, elements: many.slice(0, 1) }]), isBusy);
  await assert.rejects(bad, isNotFound);
  assert.deepEqual(elementsIn(nft.list('map ip t services')), []);
  const first = elements.commitAsync([{ op: 'add', set: services, elements: many }]);
  const second = elements.commitAsync([{ op: 'delete', set: services, elements: many.slice(1) }]);
  await Promise.all([first, second]);
  assert.deepEqual(elementsIn(nft.list('map ip t services')), ['10.0.0.0 . tcp . 80 : 0x00000001']);
});

function elementsIn(listing: string): string[] {
  const text = /elements = \{([^}]*)\}/.exec(listing)?.[1];
  return text === undefined ? [] : text.split(',').map((each) => each.trim());
}
