import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { rotateLog } from './log-rotation.ts';

test('a log that is too large is set aside; five files stay, the older ones compressed', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'podwire-logs-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, '0.log');
  let now = Date.UTC(2026, 0, 1);
  const reopened: string[] = [];
  const options = {
    maxBytes: 10,
    now: () => now,
    reopen: async (id: string) => {
      reopened.push(id);
      await writeFile(path, '');
    },
  };
  assert.equal(await rotateLog('c', path, options), false);
  for (let round = 0; round < 7; round++) {
    await appendFile(path, `round ${round} is long enough`);
    assert.equal(await rotateLog('c', path, options), true);
    now += 60_000;
  }
  assert.equal(reopened.length, 7);
  const names = (await readdir(folder)).sort();
  assert.deepEqual(names, [
    '0.log',
    '0.log.20260101-000300.gz',
    '0.log.20260101-000400.gz',
    '0.log.20260101-000500.gz',
    '0.log.20260101-000600',
  ]);
  assert.equal(gunzipSync(await readFile(join(folder, names[1]!))).toString(), 'round 3 is long enough');
});

test('a log keeps its name when the runtime cannot begin a new one', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'podwire-logs-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, '0.log');
  await writeFile(path, 'long enough');
  const reopen = () => Promise.reject(new Error('gone'));
  await assert.rejects(rotateLog('c', path, { maxBytes: 1, now: () => 0, reopen }), /gone/);
  assert.equal((await stat(path)).size, 11);
});
