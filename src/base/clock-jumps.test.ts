import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from './clock.ts';
import { ClockJumps } from './clock-jumps.ts';

test('delays up to a period are none, what is beyond is a jump, and so is a clock that is set back', async () => {
  const clock = new FakeClock();
  let set = 0;
  const now = clock.now.bind(clock);
  clock.now = () => now() + set;
  const jumps = new ClockJumps(clock, 100);
  for (const [passed, jump] of [
    [0, 0],
    [100, 0],
    [200, 0],
    [201, 101],
    [60_000, 59_900],
    [100, 0],
  ] as const) {
    await clock.advance(passed);
    assert.equal(jumps.look(), jump, `after ${passed}`);
  }
  set = -3_600_000;
  assert.equal(jumps.look(), -3_600_000);
  await clock.advance(100);
  assert.equal(jumps.look(), 0);
});
