import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KeyedLock } from './keyed-lock.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('one at a time per key, in order, failures included; keys side by side', async () => {
  const lock = new KeyedLock();
  const log: string[] = [];
  const task = (name: string, fails?: 'fails') => async () => {
    log.push(`${name} begins`);
    await turn();
    log.push(`${name} ends`);
    if (fails) throw new Error(name);
    return name;
  };
  const a1 = lock.run('a', task('a1', 'fails'));
  const a2 = lock.run('a', task('a2'));
  const b1 = lock.run('b', task('b1'));
  assert.deepEqual([lock.isHeld('a'), lock.isHeld('b'), lock.isHeld('c')], [true, true, false]);
  await assert.rejects(a1, /a1/);
  assert.deepEqual(await Promise.all([a2, b1]), ['a2', 'b1']);
  assert.deepEqual(log.slice(0, 2), ['a1 begins', 'b1 begins']);
  assert.deepEqual(
    log.filter((line) => line.startsWith('a')),
    ['a1 begins', 'a1 ends', 'a2 begins', 'a2 ends'],
  );
  assert.equal(lock.isHeld('a'), false);
});
