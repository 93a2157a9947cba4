import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { FakeClock, systemClock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import { ManagedProcess } from './managed-process.ts';
import { checkName, clusterPaths } from './paths.ts';
import { forgetProcess, recordedProcesses, recordProcess, startTimeOf, waitUntilGone } from './process-table.ts';

const folder = mkdtempSync(join(tmpdir(), 'podwire-processes-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const paths = { ...clusterPaths('unit'), processes: join(folder, 'processes') };

test('a record counts only while the same process lives', async () => {
  assert.deepEqual(recordedProcesses(paths), []);
  recordProcess(paths, 'self', process.pid);
  assert.deepEqual(recordedProcesses(paths), [{ name: 'self', pid: process.pid }]);
  // The same PID with another start time is another process.
  const file = join(paths.processes, 'self');
  rmSync(file);
  recordProcess(paths, 'gone', 2 ** 22 + 1);
  assert.deepEqual(recordedProcesses(paths), []);
  forgetProcess(paths, 'gone');
  forgetProcess(paths, 'gone');
});

test('a process that ends is started again, with growing waits; a stopped one is not', async () => {
  const clock = new FakeClock();
  const starts: number[] = [];
  const began = clock.now();
  const log = join(folder, 'log', 'child.log');
  const child = new ManagedProcess({
    name: 'child',
    command: (attempt) => ['sh', '-c', `echo attempt ${attempt}; exit 3`],
    logFile: log,
    log: silentLogger,
    clock,
    onStarted: () => starts.push(clock.now() - began),
  });
  child.start();
  for (let i = 0; i < 4; i++) {
    await until(() => child.pid === undefined);
    assert.equal(child.lastExit, 'exit code 3');
    await clock.advance(100 * 2 ** i);
  }
  await until(() => child.pid === undefined);
  assert.deepEqual(starts, [0, 100, 300, 700, 1500]);
  await child.stop(100);
  await clock.advance(60_000);
  assert.equal(starts.length, 5);
  assert.match(readFileSync(log, 'utf8'), /attempt 0\nattempt 1\n/);
});

test('one that ignores SIGTERM is killed', async () => {
  const child = new ManagedProcess({
    name: 'stubborn',
    command: () => ['sh', '-c', 'trap "" TERM; echo ready; while :; do sleep 0.05; done'],
    logFile: join(folder, 'stubborn.log'),
    log: silentLogger,
  });
  child.start();
  const pid = child.pid!;
  await until(
    () => existsSync(join(folder, 'stubborn.log')) && readFileSync(join(folder, 'stubborn.log'), 'utf8') !== '',
  );
  await child.stop(50);
  assert.deepEqual(await waitUntilGone([pid], 2000), []);
  assert.equal(startTimeOf(pid), undefined);
});

test('cluster names become paths and interface names: they are checked', () => {
  for (const good of ['a', 'ci', 'my-cluster-2', '0']) assert.equal(checkName(good), good);
  for (const bad of ['', '-a', 'a-', 'A', 'a_b', '../x', 'a/b', 'x'.repeat(33), 'a b'])
    assert.throws(() => checkName(bad), /not valid/, bad);
});

async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !holds(); i++) await systemClock.sleep(10);
  assert.ok(holds());
}
