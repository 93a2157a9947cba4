import assert from 'node:assert/strict';
import { appendFile, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { isNotFound } from '../../../kube/status.ts';
import { parseLogQuery } from './log-query.ts';
import { readLog } from './log-reader.ts';

const NOW = Date.parse('2026-01-01T01:00:00Z');

class FakeLog {
  readonly path: string;
  running = false;
  constructor(path: string) {
    this.path = path;
  }
  write(text: string, { stream = 'stdout', tag = 'F', second = 0 } = {}): Promise<void> {
    const time = new Date(Date.parse('2026-01-01T00:00:00Z') + second * 1000).toISOString();
    return appendFile(this.path, `${time} ${stream} ${tag} ${text}\n`);
  }
  read(query = '', signal = new AbortController().signal): AsyncGenerator<Buffer> {
    const locate = async () => ({ path: this.path, running: this.running });
    return readLog(locate, parseLogQuery(new URLSearchParams(query), NOW), signal);
  }
  async text(query = ''): Promise<string> {
    return (await buffer(this.read(query))).toString();
  }
}

async function newLog(t: TestContext): Promise<FakeLog> {
  const folder = await mkdtemp(join(tmpdir(), 'podwire-log-'));
  t.after(() => rm(folder, { recursive: true }));
  return new FakeLog(join(folder, '0.log'));
}

test('what the container wrote, without the runtime’s prefixes; parts are joined', async (t) => {
  const log = await newLog(t);
  await appendFile(log.path, 'garbage\n');
  await log.write('one');
  await log.write('lo', { tag: 'P' });
  await log.write('ng', { tag: 'F' });
  await log.write('bad', { stream: 'stderr' });
  assert.equal(await log.text(), 'one\nlong\nbad\n');
  assert.equal(await log.text('tailLines=2'), 'long\nbad\n');
  assert.equal(await log.text('stream=Stderr'), 'bad\n');
  assert.equal(await log.text('limitBytes=6'), 'one\nlo');
  assert.equal(
    await log.text('timestamps=true&tailLines=2'),
    '2026-01-01T00:00:00.000000000Z long\n2026-01-01T00:00:00.000000000Z bad\n',
  );
});

test('since a time or a number of seconds', async (t) => {
  const log = await newLog(t);
  for (const second of [0, 1800, 3599]) await log.write(`at ${second}`, { second });
  assert.equal(await log.text('sinceTime=2026-01-01T00:30:00Z'), 'at 1800\nat 3599\n');
  assert.equal(await log.text('sinceSeconds=2'), 'at 3599\n');
  assert.equal(await log.text('sinceSeconds=1800&tailLines=3'), 'at 1800\nat 3599\n');
});

test('characters that span the reader’s blocks arrive whole', async (t) => {
  const log = await newLog(t);
  const text = 'ä€𝄞'.repeat(40_000);
  await log.write(text);
  assert.equal(await log.text(), `${text}\n`);
});

test('a file that ends in the middle of a line', async (t) => {
  const log = await newLog(t);
  await writeFile(log.path, '2026-01-01T00:00:00Z stdout F cut of');
  assert.equal(await log.text(), 'cut of');
});

test('no file: nothing while the container runs, NotFound afterwards', async (t) => {
  const log = await newLog(t);
  await assert.rejects(log.text(), isNotFound);
  log.running = true;
  assert.equal(await log.text(), '');
});

/** Collects while following, and waits until a text has come. */
function follow(log: FakeLog, query = 'follow=true', signal?: AbortSignal) {
  let text = '';
  let arrived = () => {};
  const done = (async () => {
    for await (const chunk of log.read(query, signal)) {
      text += chunk;
      arrived();
    }
    return text;
  })();
  const until = async (wanted: string) => {
    while (!text.includes(wanted)) await new Promise<void>((resolve) => (arrived = resolve));
  };
  return { done, until };
}

test('following ends when the container has ended and all was read', async (t) => {
  const log = await newLog(t);
  log.running = true;
  await log.write('first');
  await log.write('second');
  const { done, until } = follow(log, 'follow=true&tailLines=1');
  await until('second');
  await log.write('third');
  await until('third');
  await log.write('last');
  log.running = false;
  assert.equal(await done, 'second\nthird\nlast\n');
});

test('following waits for a file that is not there yet, and survives rotation', async (t) => {
  const log = await newLog(t);
  log.running = true;
  const { done, until } = follow(log);
  await log.write('a');
  await until('a');
  await rename(log.path, `${log.path}.1`);
  await appendFile(`${log.path}.1`, '2026-01-01T00:00:00Z stdout F late\n');
  await until('late');
  await log.write('b');
  await until('b');
  log.running = false;
  assert.equal(await done, 'a\nlate\nb\n');
});

test('following ends with its limit, or when nobody listens any more', async (t) => {
  const log = await newLog(t);
  log.running = true;
  await log.write('0123456789');
  assert.equal(await follow(log, 'follow=true&limitBytes=4').done, '0123');
  const stop = new AbortController();
  const { done, until } = follow(log, 'follow=true', stop.signal);
  await until('9');
  stop.abort();
  assert.equal(await done, '0123456789\n');
});

test('wrong options are refused', () => {
  for (const query of [
    'tailLines=x',
    'tailLines=-1',
    'limitBytes=0',
    'sinceTime=noon',
    'stream=stdin',
    'sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z',
  ])
    assert.throws(() => parseLogQuery(new URLSearchParams(query), NOW), { name: 'StatusError' }, query);
});
