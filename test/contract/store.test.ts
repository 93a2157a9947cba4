/** What every store must do, run against each engine. The contract: src/store/contract.ts. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { type Change, CompactedError, FutureRevisionError, type RevisionedStore } from '../../src/store/contract.ts';
import { lmdbStore } from '../../src/store/lmdb.ts';
import { memoryStore } from '../../src/store/memory.ts';

const folders: string[] = [];
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'podwire-store-'));
  folders.push(path);
  return path;
}

const engines: Readonly<Record<string, (historyRevisions?: number) => RevisionedStore>> = {
  memory: (historyRevisions) => memoryStore(historyRevisions ? { historyRevisions } : {}),
  lmdb: (historyRevisions) => lmdbStore({ path: folder(), ...(historyRevisions ? { historyRevisions } : {}) }),
};

const bytes = (text: string) => Buffer.from(text);
const text = (value: Uint8Array | undefined) => value && Buffer.from(value).toString();
const put = (store: RevisionedStore, key: string, value: string) =>
  store.commit({ compares: [], mutations: [{ key, value: bytes(value) }] });
const remove = (store: RevisionedStore, key: string) => store.commit({ compares: [], mutations: [{ key }] });

for (const [name, open] of Object.entries(engines)) {
  describe(`store contract: ${name}`, () => {
    const withStore = async (run: (store: RevisionedStore) => Promise<void>, history?: number) => {
      const store = open(history);
      try {
        await run(store);
      } finally {
        await store.close();
      }
    };

    it('begins at revision 1 and raises it by one with every commit', () =>
      withStore(async (store) => {
        assert.equal(store.revision, 1);
        assert.deepEqual(await put(store, '/a', 'x'), { ok: true, revision: 2 });
        assert.deepEqual(await put(store, '/b', 'y'), { ok: true, revision: 3 });
        assert.equal(store.revision, 3);
      }));

    it('keeps the create revision through changes, and renews it after a deletion', () =>
      withStore(async (store) => {
        await put(store, '/a', '1');
        await put(store, '/a', '2');
        const changed = await store.get('/a');
        assert.deepEqual([changed?.createRevision, changed?.modRevision, text(changed?.value)], [2, 3, '2']);
        await remove(store, '/a');
        assert.equal(await store.get('/a'), undefined);
        await put(store, '/a', '3');
        assert.equal((await store.get('/a'))?.createRevision, 5);
      }));

    it('changes nothing when a compare fails, and says what is there', () =>
      withStore(async (store) => {
        await put(store, '/a', '1');
        const refused = await store.commit({
          compares: [
            { key: '/a', modRevision: 2 },
            { key: '/b', modRevision: 7 },
          ],
          mutations: [{ key: '/a', value: bytes('2') }],
        });
        assert.equal(refused.ok, false);
        assert.ok(!refused.ok && refused.key === '/b' && refused.actual === undefined);
        const taken = await store.commit({
          compares: [{ key: '/a', modRevision: 0 }],
          mutations: [{ key: '/a', value: bytes('2') }],
        });
        assert.ok(!taken.ok && text(taken.actual?.value) === '1' && taken.actual?.modRevision === 2);
        assert.equal(store.revision, 2);
      }));

    it('lets exactly one of many concurrent compare-and-puts win', () =>
      withStore(async (store) => {
        const results = await Promise.all(
          Array.from({ length: 50 }, (_, i) =>
            store.commit({
              compares: [{ key: '/one', modRevision: 0 }],
              mutations: [{ key: '/one', value: bytes(String(i)) }],
            }),
          ),
        );
        assert.equal(results.filter((result) => result.ok).length, 1);
        assert.equal(store.revision, 2);
      }));

    it('commits several keys at one revision', () =>
      withStore(async (store) => {
        await put(store, '/old', 'x');
        await store.commit({
          compares: [],
          mutations: [{ key: '/a', value: bytes('1') }, { key: '/b', value: bytes('2') }, { key: '/old' }],
        });
        assert.equal((await store.get('/a'))?.modRevision, 3);
        assert.equal((await store.get('/b'))?.modRevision, 3);
        assert.equal(await store.get('/old'), undefined);
      }));

    it('does not raise the revision for the deletion of what is absent', () =>
      withStore(async (store) => {
        assert.deepEqual(await remove(store, '/nothing'), { ok: true, revision: 1 });
      }));

    it('ranges over a prefix in byte order, page by page', () =>
      withStore(async (store) => {
        for (const key of ['/p/b', '/p/a', '/p/a.b', '/p/c', '/q/x', '/o/z']) await put(store, key, key);
        const all = await store.range('/p/');
        assert.deepEqual(
          all.items.map((item) => item.key),
          ['/p/a', '/p/a.b', '/p/b', '/p/c'],
        );
        const first = await store.range('/p/', { limit: 3 });
        assert.deepEqual([first.items.length, first.remaining], [3, 1]);
        const second = await store.range('/p/', { limit: 3, after: '/p/b' });
        assert.deepEqual([second.items.map((item) => item.key), second.remaining], [['/p/c'], 0]);
      }));

    it('shows the state at an older revision until it is compacted', () =>
      withStore(async (store) => {
        await put(store, '/k/a', '1');
        await put(store, '/k/b', '1');
        const then = store.revision;
        await put(store, '/k/a', '2');
        await remove(store, '/k/b');
        await put(store, '/k/c', '1');
        const old = await store.range('/k/', { revision: then });
        assert.deepEqual(
          old.items.map((item) => [item.key, text(item.value), item.modRevision]),
          [
            ['/k/a', '1', 2],
            ['/k/b', '1', 3],
          ],
        );
        await store.compact(then + 1);
        await assert.rejects(store.range('/k/', { revision: then }), CompactedError);
        await assert.rejects(store.range('/k/', { revision: 1000 }), FutureRevisionError);
        assert.deepEqual(
          (await store.range('/k/')).items.map((item) => item.key),
          ['/k/a', '/k/c'],
        );
      }));

    it('watches from an older revision and then on, in order, with previous values, before the commit resolves', () =>
      withStore(async (store) => {
        await put(store, '/w/a', '1');
        await put(store, '/x/other', '1');
        await put(store, '/w/a', '2');
        const seen: string[] = [];
        const note = (changes: readonly Change[], revision: number) => {
          for (const { key, current, previous } of changes)
            seen.push(`${revision} ${key} ${text(previous?.value) ?? '-'}>${text(current?.value) ?? '-'}`);
        };
        const stop = store.watch('/w/', 1, { onChanges: note });
        assert.deepEqual(seen, ['2 /w/a ->1', '4 /w/a 1>2']);
        await remove(store, '/w/a');
        assert.equal(seen.at(-1), '5 /w/a 2>-');
        stop();
        await put(store, '/w/a', '3');
        assert.equal(seen.length, 3);
      }));

    it('refuses a watch from a compacted revision', () =>
      withStore(async (store) => {
        for (let i = 0; i < 5; i++) await put(store, '/a', String(i));
        await store.compact(4);
        assert.equal(store.compactedRevision, 4);
        assert.throws(() => store.watch('/', 3, { onChanges() {} }), CompactedError);
        store.watch('/', 4, { onChanges() {} })();
      }));

    it('forgets old history by itself', () =>
      withStore(async (store) => {
        for (let i = 0; i < 300; i++) await put(store, '/a', String(i));
        assert.ok(store.compactedRevision > 1);
        assert.ok(store.revision - store.compactedRevision <= 50 + 101);
      }, 50));

    it('ends watches when it closes and refuses commits afterwards', async () => {
      const store = open();
      const ended = Promise.withResolvers<Error>();
      store.watch('/', store.revision, { onChanges() {}, onClosed: ended.resolve });
      await store.close();
      assert.match((await ended.promise).message, /closed/);
      await assert.rejects(put(store, '/a', '1'));
    });

    it('agrees with a plain map over random histories', () =>
      withStore(async (store) => {
        const model = new Map<string, string>();
        const snapshots = new Map<number, Map<string, string>>();
        const operation = fc.record({
          key: fc.constantFrom('/m/a', '/m/b', '/m/c', '/m/d', '/n/a'),
          value: fc.option(fc.string({ maxLength: 8 }), { nil: undefined }),
        });
        await fc.assert(
          fc.asyncProperty(fc.array(operation, { maxLength: 12 }), async (operations) => {
            for (const { key, value } of operations) {
              await store.commit({
                compares: [],
                mutations: [{ key, ...(value === undefined ? {} : { value: bytes(value) }) }],
              });
              if (value === undefined) model.delete(key);
              else model.set(key, value);
              snapshots.set(store.revision, new Map(model));
            }
            for (const [revision, state] of [...snapshots].slice(-5)) {
              const { items } = await store.range('/', { revision });
              assert.deepEqual(
                items.map((item) => [item.key, text(item.value)]),
                [...state].sort(([a], [b]) => (a < b ? -1 : 1)),
              );
            }
          }),
          { numRuns: 15 },
        );
      }));
  });
}

describe('store: LMDB on disk', () => {
  it('finds everything again, history included', async () => {
    const path = folder();
    const first = lmdbStore({ path });
    await put(first, '/a', '1');
    await put(first, '/a', '2');
    await first.close();
    const second = lmdbStore({ path });
    assert.equal(second.revision, 3);
    const seen: number[] = [];
    second.watch('/', 2, { onChanges: (_, revision) => seen.push(revision) });
    assert.deepEqual(seen, [3]);
    assert.equal(text((await second.range('/', { revision: 2 })).items[0]?.value), '1');
    await put(second, '/b', '1');
    assert.equal(second.revision, 4);
    await second.close();
  });

  it('loses no acknowledged write to kill -9', async () => {
    const path = folder();
    for (let round = 0; round < 3; round++) {
      const acknowledged = await writeUntilKilled(path, round);
      assert.ok(acknowledged.size > 0, 'the child wrote something before it was killed');
      const store = lmdbStore({ path });
      for (const [key, revision] of acknowledged) {
        assert.equal((await store.get(key))?.modRevision, revision, `${key} was acknowledged at ${revision}`);
        assert.ok(store.revision >= revision);
      }
      await store.close();
    }
  });
});

/** Keys that the child reported as committed, with their revisions. */
async function writeUntilKilled(path: string, round: number): Promise<Map<string, number>> {
  const writer = new URL('./fixtures/store-writer.ts', import.meta.url).pathname;
  const child: ChildProcess = spawn(process.execPath, [writer, path, String(round)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const acknowledged = new Map<string, number>();
  try {
    const lines = createInterface({ input: child.stdout! });
    lines.on('line', (line) => {
      const [key = '', revision] = line.split(' ');
      acknowledged.set(key, Number(revision));
      if (acknowledged.size === 150) child.kill('SIGKILL');
    });
    const [[, signal]] = await Promise.all([once(child, 'exit'), once(lines, 'close')]);
    assert.equal(signal, 'SIGKILL');
  } finally {
    child.kill('SIGKILL');
  }
  return acknowledged;
}
