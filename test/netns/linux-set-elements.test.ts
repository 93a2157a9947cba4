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
