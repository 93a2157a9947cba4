import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { IpPool } from './ip-pool.ts';
import { Pool, staticBandOf } from './pool.ts';

describe('pool', () => {
  it('chooses above the static band while it can', () => {
    const pool = new Pool({ first: 1, last: 20, staticBand: 10 });
    const chosen = Array.from({ length: 10 }, () => pool.takeAny()!);
    assert.ok(chosen.every((value) => value > 10));
    assert.ok(pool.takeAny()! <= 10);
  });

  it('gives each number once, all of them, and then none', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 0, max: 60 }), (size, staticBand) => {
        const pool = new Pool({ first: 5, last: 4 + size, staticBand });
        const values = Array.from({ length: size }, () => pool.takeAny());
        assert.equal(new Set(values).size, size);
        assert.equal(pool.takeAny(), undefined);
        pool.release(5);
        assert.equal(pool.takeAny(), 5);
      }),
    );
  });

  it('the static bands are those of KEP-3070 and KEP-3668', () => {
    assert.equal(staticBandOf(65_534, 16, 16, 256), 256);
    assert.equal(staticBandOf(254, 16, 16, 256), 16);
    assert.equal(staticBandOf(14, 16, 16, 256), 0);
    assert.equal(staticBandOf(2768, 32, 16, 128), 86);
  });
});

describe('addresses', () => {
  it('leave out the network and the broadcast address', () => {
    const pool = new IpPool('10.0.0.0/30');
    assert.deepEqual([pool.takeAny(), pool.takeAny()].sort(), ['10.0.0.1', '10.0.0.2']);
    assert.equal(pool.takeAny(), undefined);
    assert.deepEqual(
      [pool.contains('10.0.0.0'), pool.contains('10.0.0.3'), pool.contains('fd00::1')],
      [false, false, false],
    );
  });

  it('of IPv6 are canonical', () => {
    const pool = new IpPool('fd00:10:96::/112');
    assert.ok(pool.take('fd00:10:96:0:0:0:0:1'));
    assert.ok(!pool.take('fd00:10:96::1'));
    assert.match(pool.takeAny()!, /^fd00:10:96::[0-9a-f]+$/);
  });
});
