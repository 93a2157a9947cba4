import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { decodeTaskEvent } from './cri/containerd-events.ts';
import { rotateLog } from './log-rotation.ts';
import { logMessage } from './worker/termination-message.ts';

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

test('the end of a CRI log as a message', () => {
  const log =
    'cut off\n2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr P tw\n2026-01-01T00:00:00Z stderr F o o\n';
  assert.equal(logMessage(log), 'one\ntwo o\n');
  assert.equal(logMessage(''), '');
});

test('task events: the fields that name a container and a process', () => {
  // containerd.events.TaskExit { container_id: "abc", id: "ex", pid: 300, exit_status: 1 }, as protobuf encodes it.
  const exit = Uint8Array.from([0x0a, 3, 97, 98, 99, 0x12, 2, 101, 120, 0x18, 0xac, 2, 0x20, 1]);
  assert.deepEqual(decodeTaskEvent('/tasks/exit', exit), { containerId: 'abc', id: 'ex' });
  // TaskDelete { container_id: "abc", pid: 5, id: "abc" }
  const end = Uint8Array.from([0x0a, 3, 97, 98, 99, 0x10, 5, 0x2a, 3, 97, 98, 99]);
  assert.deepEqual(decodeTaskEvent('/tasks/delete', end), { containerId: 'abc', id: 'abc' });
  assert.deepEqual(decodeTaskEvent('/tasks/oom', end.subarray(0, 5)), { containerId: 'abc', id: '' });
});
