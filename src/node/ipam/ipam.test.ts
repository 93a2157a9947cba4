import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { FakeClock } from '../../base/clock.ts';
import { parseIp } from '../../base/ip.ts';
import { silentLogger } from '../../base/log.ts';
import { Ipam, type IpamOptions, NoPodCidrError } from './ipam.ts';
import { JournalCorruptError, type Reservation, renderRecord } from './journal-record.ts';

const folder = mkdtempSync(join(tmpdir(), 'podwire-ipam-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const newPath = () => join(folder, `journal-${files++}`);

const DUAL = ['10.244.1.0/24', 'fd00:10:244:1::/64'];
const pod = (containerId: string, ifname = 'eth0') => ({
  containerId,
  ifname,
  podNamespace: 'default',
  podName: `pod-${containerId}`,
  podUid: `uid-${containerId}`,
});

async function open(path: string, options: Partial<IpamOptions> = {}): Promise<Ipam> {
  return await Ipam.open({ path, podCidrs: DUAL, log: silentLogger, ...options });
}

test('one address per family; the same attachment gets the same ones', async () => {
  const ipam = await open(newPath());
  const first = await ipam.reserve(pod('a'));
  assert.deepEqual(first.addresses, ['10.244.1.2', 'fd00:10:244:1::2']);
  assert.deepEqual((await ipam.reserve(pod('a'))).addresses, first.addresses);
  assert.deepEqual((await ipam.reserve(pod('a', 'net1'))).addresses, ['10.244.1.3', 'fd00:10:244:1::3']);
  assert.equal(ipam.list().length, 2);
  ipam.close();
});

test('release gives back once, one interface or all of a container', async () => {
  const ipam = await open(newPath());
  await ipam.reserve(pod('a'));
  await ipam.reserve(pod('a', 'net1'));
  await ipam.reserve(pod('b'));
  assert.equal(ipam.release({ containerId: 'a', ifname: 'net1' }).length, 1);
  assert.equal(ipam.release({ containerId: 'a', ifname: 'net1' }).length, 0);
  assert.equal(ipam.release({ containerId: 'a' }).length, 1);
  assert.deepEqual(
    ipam.list().map((reservation) => reservation.containerId),
    ['b'],
  );
  ipam.close();
});

test('a restart knows everything and goes on behind the last address', async () => {
  const path = newPath();
  const before = await open(path);
  await before.reserve(pod('a'));
  await before.reserve(pod('b'));
  before.release({ containerId: 'b' });
  before.close();
  const after = await open(path);
  assert.deepEqual(after.list(), before.list());
  assert.deepEqual((await after.reserve(pod('c'))).addresses, ['10.244.1.4', 'fd00:10:244:1::4']);
  after.close();
});

test('without a podCIDR nothing is handed out; it may come later and change', async () => {
  const ipam = await open(newPath(), { podCidrs: [] });
  await assert.rejects(ipam.reserve(pod('a')), NoPodCidrError);
  ipam.setPodCidrs(['10.9.0.0/24']);
  assert.deepEqual((await ipam.reserve(pod('a'))).addresses, ['10.9.0.2']);
  ipam.setPodCidrs(['10.8.0.0/24']);
  assert.deepEqual((await ipam.reserve(pod('b'))).addresses, ['10.8.0.2']);
  assert.equal(ipam.release({ containerId: 'a' }).length, 1);
  assert.throws(() => ipam.setPodCidrs(['10.1.0.0/24', '10.2.0.0/24']), RangeError);
  ipam.close();
});

test('a full family leaves the other one untouched', async () => {
  const ipam = await open(newPath(), { podCidrs: ['10.0.0.0/29', 'fd00::/64'] });
  for (let i = 0; i < 5; i++) await ipam.reserve(pod(`c${i}`));
  await assert.rejects(ipam.reserve(pod('more')), /no free address in 10\.0\.0\.0\/29 \(5 of 5 in use\)/);
  assert.deepEqual(
    ipam.usage().map(({ used }) => used),
    [5, 5],
  );
  ipam.close();
});

test('reconcile frees what does not live, but nothing young', async () => {
  const clock = new FakeClock();
  const ipam = await open(newPath(), { clock });
  await ipam.reserve(pod('old'));
  await ipam.reserve(pod('living'));
  await clock.advance(61_000);
  await ipam.reserve(pod('young'));
  assert.deepEqual(
    ipam.reconcile(['living']).map(({ containerId }) => containerId),
    ['old'],
  );
  assert.deepEqual(
    ipam.reconcile(['living'], 0).map(({ containerId }) => containerId),
    ['young'],
  );
  assert.deepEqual(
    ipam.list().map(({ containerId }) => containerId),
    ['living'],
  );
  ipam.close();
});

test('the journal is compacted, and stays small', async () => {
  const path = newPath();
  const ipam = await open(path);
  await ipam.reserve(pod('stays'));
  for (let i = 0; i < 1500; i++) {
    ipam.begin(pod(`c${i}`)).durable.catch(() => {});
    ipam.release({ containerId: `c${i}` });
  }
  ipam.close();
  assert.ok(readFileSync(path, 'utf8').split('\n').length < 1300);
  const again = await open(path);
  assert.deepEqual(
    again.list().map(({ containerId }) => containerId),
    ['stays'],
  );
  // "stays" holds .2, so 252 addresses took turns 1500 times: round-robin goes on there, through the compaction too.
  assert.equal((await again.reserve(pod('next'))).addresses[0], `10.244.1.${3 + (1500 % 252)}`);
  again.close();
});

test('a torn or zeroed tail is cut off, and what is appended afterwards is readable', async () => {
  for (const tail of ['0123', '00000000 {"op":"rele', '\0\0\0\0\0\0', '\0\0\0\0\0\n']) {
    const path = newPath();
    const ipam = await open(path);
    await ipam.reserve(pod('a'));
    ipam.close();
    appendFileSync(path, tail);
    const again = await open(path);
    await again.reserve(pod('b'));
    again.close();
    const last = await open(path);
    assert.deepEqual(
      last.list().map(({ containerId }) => containerId),
      ['a', 'b'],
      JSON.stringify(tail),
    );
    last.close();
  }
});

const garbage: Record<string, (text: string) => string> = {
  'a changed byte': (text) => text.replace('10.244.1.2', '10.244.1.9'),
  'another file': () => 'hello\nworld\n',
  'a lost head': (text) => text.slice(text.indexOf('\n') + 1),
  'a later version': () => renderRecord({ op: 'journal', version: 2 } as never),
  'an address twice': (text) => text + text.trimEnd().split('\n').at(-1)!.concat('\n'),
};
for (const [what, damage] of Object.entries(garbage)) {
  test(`garbage is an error and is rebuilt from what runs: ${what}`, async () => {
    const path = newPath();
    const ipam = await open(path);
    await ipam.reserve(pod('a'));
    ipam.close();
    writeFileSync(path, damage(readFileSync(path, 'utf8')));
    await assert.rejects(open(path), JournalCorruptError);
    const running: Reservation = { ...pod('a'), addresses: [parseIp('10.244.1.2')], reservedAt: 1 };
    const claim: Reservation = { ...pod('z'), addresses: [parseIp('10.244.1.2')], reservedAt: 2 };
    const rebuilt = await open(path, { recover: async () => [running, claim] });
    assert.deepEqual(rebuilt.list(), [running]);
    assert.equal((await rebuilt.reserve(pod('b'))).addresses[0], '10.244.1.3');
    rebuilt.close();
    const again = await open(path);
    assert.equal(again.list().length, 2);
    again.close();
    assert.equal(readdirSync(folder).filter((name) => name.startsWith(`${path.split('/').at(-1)}.damaged-`)).length, 1);
  });
}

test('a missing journal is rebuilt from what runs', async () => {
  const running: Reservation = { ...pod('a'), addresses: [parseIp('10.244.1.2')], reservedAt: 1 };
  const path = newPath();
  const ipam = await open(path, { recover: () => [running] });
  assert.equal(ipam.get(running)?.addresses[0], '10.244.1.2');
  ipam.close();
});

test('property: cut at every byte, no acknowledged address is given twice', async () => {
  const steps = fc.array(fc.tuple(fc.constantFrom('reserve', 'release'), fc.nat(4)), { minLength: 1, maxLength: 10 });
  await fc.assert(
    fc.asyncProperty(steps, async (operations) => {
      const path = newPath();
      const ipam = await open(path, { podCidrs: ['10.0.0.0/28'] });
      /** After so many bytes of the journal, these are held. */
      const held: { readonly bytes: number; readonly reservations: Reservation[] }[] = [];
      const note = () => held.push({ bytes: readFileSync(path).length, reservations: ipam.list() });
      note();
      for (const [operation, id] of operations) {
        if (operation === 'reserve') await ipam.reserve(pod(`c${id}`));
        else ipam.release({ containerId: `c${id}` });
        note();
      }
      ipam.close();
      const whole = readFileSync(path);
      for (let length = 0; length <= whole.length; length++) {
        writeFileSync(path, whole.subarray(0, length));
        const cut = await open(path, { podCidrs: ['10.0.0.0/28'] });
        const expected = held.findLast(({ bytes }) => bytes <= length)?.reservations ?? [];
        assert.deepEqual(cut.list(), expected, `cut at byte ${length}`);
        const { reservation } = cut.begin(pod('new'));
        assert.ok(!expected.some(({ addresses }) => addresses.includes(reservation.addresses[0]!)));
        cut.close();
      }
    }),
    { numRuns: 5 },
  );
});

test('a leftover of an interrupted compaction does no harm', async () => {
  const path = newPath();
  const ipam = await open(path);
  await ipam.reserve(pod('a'));
  ipam.close();
  writeFileSync(`${path}.new`, 'half of a jour');
  const again = await open(path);
  assert.equal(again.list().length, 1);
  truncateSync(path, 0);
  again.close();
  assert.ok(existsSync(path));
});
