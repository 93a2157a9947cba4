import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cidrAddress, cidrSize, parseCidr } from '../../base/ip.ts';
import { AddressAllocator, PoolExhaustedError } from './allocator.ts';

const allocator = (cidr: string) => new AddressAllocator(parseCidr(cidr));

test('hands out from the second host address on, in order', () => {
  const pool = allocator('10.244.1.0/24');
  assert.deepEqual([pool.allocate(), pool.allocate()], ['10.244.1.2', '10.244.1.3']);
  assert.equal(allocator('fd00:10:244:1::/64').allocate(), 'fd00:10:244:1::2');
});

test('a freed address comes back only after all others', () => {
  const pool = allocator('10.0.0.0/29');
  const first = pool.allocate();
  pool.free(first);
  const next = Array.from({ length: 5 }, () => pool.allocate());
  assert.deepEqual(next, ['10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6', '10.0.0.2']);
});

test('a full block says how full it is', () => {
  const pool = allocator('10.244.1.0/24');
  for (let i = 0; i < 253; i++) pool.allocate();
  assert.throws(
    () => pool.allocate(),
    (error) =>
      error instanceof PoolExhaustedError && error.message === 'no free address in 10.244.1.0/24 (253 of 253 in use)',
  );
  pool.free('10.244.1.77');
  assert.equal(pool.allocate(), '10.244.1.77');
});

for (const cidr of ['10.0.0.0/31', '10.0.0.1/32', '10.0.0.0/31', 'fd00::/127', 'fd00::1/128']) {
  test(`${cidr} is too small`, () => assert.throws(() => allocator(cidr), RangeError));
}

test('the smallest blocks have one address', () => {
  const pool = allocator('10.0.0.0/30');
  assert.equal(pool.capacity, 1n);
  assert.equal(pool.allocate(), '10.0.0.2');
  assert.throws(() => pool.allocate(), PoolExhaustedError);
});

test('take marks an address once, and only one that the block hands out', () => {
  const pool = allocator('10.0.0.0/24');
  assert.equal(pool.take('10.0.0.2'), true);
  for (const address of ['10.0.0.2', '10.0.0.0', '10.0.0.1', '10.0.0.255', '10.0.1.5', 'fd00::5']) {
    assert.equal(pool.take(address), false, address);
  }
  assert.equal(pool.allocate(), '10.0.0.3');
});

test('resumeAfter goes on behind the address, and ignores others', () => {
  const pool = allocator('10.0.0.0/24');
  pool.resumeAfter('10.0.0.200');
  pool.resumeAfter('fd00::9');
  assert.equal(pool.allocate(), '10.0.0.201');
});

test('property: no address twice, none that is reserved, whatever is freed in between', () => {
  const cidrs = fc.constantFrom('10.0.0.0/28', '10.0.0.0/30', 'fd00::/125', 'fd00::/64');
  fc.assert(
    fc.property(cidrs, fc.array(fc.oneof(fc.constant('allocate'), fc.nat(20)), { maxLength: 80 }), (text, steps) => {
      const cidr = parseCidr(text);
      const pool = new AddressAllocator(cidr);
      const held: string[] = [];
      const forbidden = [cidr.address, cidrAddress(cidr, 1)];
      if (cidr.family === 4) forbidden.push(cidrAddress(cidr, cidrSize(cidr) - 1n));
      for (const step of steps) {
        if (step === 'allocate') {
          if (pool.isFull) assert.throws(() => pool.allocate(), PoolExhaustedError);
          else {
            const address = pool.allocate();
            assert.ok(!held.includes(address) && !forbidden.includes(address) && pool.contains(address));
            held.push(address);
          }
        } else if (held.length > 0) pool.free(held.splice(Number(step) % held.length, 1)[0]!);
        assert.equal(pool.used, held.length);
      }
    }),
  );
});
