/** Lists and watches: what informers rely on. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { memoryStore } from '../../src/store/memory.ts';
import { aPod, type Body, CONFIG_MAPS, configMap, PODS, TestServer } from './fixtures/api-server.ts';

const TABLE = { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json' };

let server: TestServer;
before(async () => {
  server = await TestServer.start();
});
after(() => server[Symbol.asyncDispose]());

const newNamespace = async (name: string) => {
  await server.created('/api/v1/namespaces', { metadata: { name } });
  return `/api/v1/namespaces/${name}/configmaps`;
};

describe('list', () => {
  it('selects by labels and fields', async () => {
    const path = await newNamespace('select');
    for (const [name, tier] of [
      ['a', 'x'],
      ['b', 'y'],
      ['c', ''],
    ] as const)
      await server.created(path, configMap(name, tier ? { metadata: { labels: { tier } } } : {}));
    const names = async (query: string) =>
      (await server.get(`${path}?${query}`)).body.items.map((item: Body) => item.metadata.name).join('');
    assert.equal(await names('labelSelector=tier=x'), 'a');
    assert.equal(await names('labelSelector=tier!=x'), 'bc');
    assert.equal(await names('labelSelector=tier%20in%20(x,y)'), 'ab');
    assert.equal(await names('labelSelector=!tier'), 'c');
    assert.equal(await names('fieldSelector=metadata.name=b'), 'b');
    assert.equal(await names('fieldSelector=metadata.name!=b'), 'ac');
    const all = await server.get('/api/v1/configmaps?fieldSelector=metadata.namespace=select');
    assert.equal(all.body.items.length, 3);
    assert.equal(all.body.kind, 'ConfigMapList');
  });

  it('shows one state over all pages, whatever changes meanwhile', async () => {
    const path = await newNamespace('pages');
    for (const name of ['a', 'b', 'c', 'd', 'e']) await server.created(path, configMap(name));
    const first = (await server.get(`${path}?limit=2`)).body;
    assert.deepEqual([first.items.length, first.metadata.remainingItemCount], [2, 3]);
    await server.call('DELETE', `${path}/d`);
    await server.created(path, configMap('bb'));
    const names = first.items.map((item: Body) => item.metadata.name);
    let token = first.metadata.continue;
    while (token) {
      const page = (await server.get(`${path}?limit=2&continue=${token}`)).body;
      assert.equal(page.metadata.resourceVersion, first.metadata.resourceVersion);
      names.push(...page.items.map((item: Body) => item.metadata.name));
      token = page.metadata.continue;
    }
    assert.deepEqual(names, ['a', 'b', 'c', 'd', 'e']);
  });

  it('waits for a version that is to come, and gives up', async () => {
    const reply = await server.get(`${CONFIG_MAPS}?resourceVersion=100000`);
    assert.equal(reply.code, 504);
    assert.match(reply.body.message, /Too large resource version/);
  });

  it('prints tables and metadata', async () => {
    await server.created(PODS, aPod('tabled'));
    const table = (await server.get(PODS, TABLE)).body;
    assert.equal(table.kind, 'Table');
    assert.deepEqual(
      table.columnDefinitions.map((column: Body) => column.name),
      ['Name', 'Ready', 'Status', 'Restarts', 'Age', 'IP', 'Node', 'Nominated Node', 'Readiness Gates'],
    );
    const row = table.rows.find((one: Body) => one.cells[0] === 'tabled');
    assert.deepEqual(row.cells.slice(1, 4), ['0/1', 'Pending', '0']);
    assert.equal(row.object.kind, 'PartialObjectMetadata');
    const metadata = await server.get(PODS, {
      accept: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1',
    });
    assert.equal(metadata.body.kind, 'PartialObjectMetadataList');
    assert.equal(metadata.body.items[0].spec, undefined);
  });

  it('compresses large answers', async () => {
    const path = await newNamespace('large');
    await server.created(path, configMap('big', { data: { a: 'x'.repeat(200_000) } }));
    const reply = await server.get(path, { 'accept-encoding': 'gzip' });
    assert.equal(reply.headers['content-encoding'], 'gzip');
    assert.ok(Number(reply.headers['content-length']) < 20_000);
  });
});

describe('watch', () => {
  it('begins with what is there, then tells of changes in order', async () => {
    const path = await newNamespace('watch-all');
    await server.created(path, configMap('a'));
    const watch = server.watch(path);
    assert.deepEqual(await watch.take(1), ['ADDED a']);
    await server.created(path, configMap('b'));
    await server.patch(`${path}/a`, 'merge', { data: { x: '1' } });
    await server.call('DELETE', `${path}/b`);
    assert.deepEqual(await watch.take(2), ['ADDED b', 'MODIFIED a']);
    const deleted = await watch.next();
    assert.equal(deleted?.type, 'DELETED');
    const list = (await server.get(path)).body;
    assert.equal(deleted?.object.metadata.resourceVersion, list.metadata.resourceVersion);
    watch.stop();
  });

  it('continues from a version without a gap', async () => {
    const path = await newNamespace('watch-from');
    await server.created(path, configMap('a'));
    const { resourceVersion } = (await server.get(path)).body.metadata;
    await server.created(path, configMap('b'));
    await server.call('DELETE', `${path}/a`);
    const watch = server.watch(`${path}?resourceVersion=${resourceVersion}`);
    assert.deepEqual(await watch.take(2), ['ADDED b', 'DELETED a']);
    watch.stop();
  });

  it('turns changes of labels into ADDED and DELETED', async () => {
    const path = await newNamespace('watch-labels');
    const { resourceVersion } = (await server.get(path)).body.metadata;
    const watch = server.watch(`${path}?labelSelector=on=yes&resourceVersion=${resourceVersion}`);
    await server.created(path, configMap('a'));
    await server.patch(`${path}/a`, 'merge', { metadata: { labels: { on: 'yes' } } });
    await server.patch(`${path}/a`, 'merge', { data: { x: '1' } });
    await server.patch(`${path}/a`, 'merge', { metadata: { labels: { on: 'no' } } });
    await server.call('DELETE', `${path}/a`);
    await server.created(path, configMap('b', { metadata: { labels: { on: 'yes' } } }));
    const events = [await watch.next(), await watch.next(), await watch.next(), await watch.next()];
    assert.deepEqual(
      events.map((event) => `${event?.type} ${event?.object.metadata.name}`),
      ['ADDED a', 'MODIFIED a', 'DELETED a', 'ADDED b'],
    );
    assert.deepEqual(events[2]?.object.metadata.labels, { on: 'yes' });
    watch.stop();
  });

  it('tells a node of its own pods only', async () => {
    const { resourceVersion } = (await server.get(PODS)).body.metadata;
    const watch = server.watch(`/api/v1/pods?fieldSelector=spec.nodeName=n1&resourceVersion=${resourceVersion}`);
    for (const name of ['p1', 'p2']) {
      await server.created(PODS, aPod(name));
      const node = name === 'p1' ? 'n1' : 'n2';
      await server.call('POST', `${PODS}/${name}/binding`, { body: { target: { kind: 'Node', name: node } } });
    }
    await server.patch(`${PODS}/p1/status`, 'merge', { status: { phase: 'Running' } });
    assert.deepEqual(await watch.take(2), ['ADDED p1', 'MODIFIED p1']);
    watch.stop();
  });

  it('marks the end of the initial events (WatchList)', async () => {
    const path = await newNamespace('watch-list');
    await server.created(path, configMap('a'));
    const watch = server.watch(
      `${path}?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=`,
    );
    assert.deepEqual(await watch.take(1), ['ADDED a']);
    const bookmark = await watch.next();
    assert.equal(bookmark?.type, 'BOOKMARK');
    assert.equal(bookmark?.object.metadata.annotations['k8s.io/initial-events-end'], 'true');
    assert.match(bookmark?.object.metadata.resourceVersion, /^\d+$/);
    await server.created(path, configMap('b'));
    assert.deepEqual(await watch.take(1), ['ADDED b']);
    watch.stop();
  });

  it('ends after timeoutSeconds', async () => {
    const watch = server.watch(`${CONFIG_MAPS}?timeoutSeconds=1&resourceVersion=${server.store.revision}`);
    assert.equal(await watch.next(), undefined);
  });

  it('sends tables', async () => {
    const path = await newNamespace('watch-table');
    await server.created(path, configMap('a'));
    const watch = server.watch(path, TABLE);
    const first = await watch.next();
    assert.deepEqual(
      [first?.object.kind, first?.object.columnDefinitions.length, first?.object.rows[0].cells[0]],
      ['Table', 3, 'a'],
    );
    await server.created(path, configMap('b'));
    assert.equal((await watch.next())?.object.columnDefinitions.length, 0);
    watch.stop();
  });

  it('says Expired for a version that is too old', async () => {
    const path = await newNamespace('watch-old');
    await server.created(path, configMap('a'));
    const { resourceVersion } = (await server.get(path)).body.metadata;
    for (let i = 0; i < 1500; i += 50)
      await Promise.all(
        Array.from({ length: 50 }, (_, j) => server.patch(`${path}/a`, 'merge', { data: { x: `${i + j}` } })),
      );
    const watch = server.watch(`${path}?resourceVersion=${resourceVersion}`);
    const event = await watch.next();
    assert.deepEqual([event?.type, event?.object.code, event?.object.reason], ['ERROR', 410, 'Expired']);
    assert.equal(await watch.next(), undefined);
  });

  it('continues over a restart of the server', async () => {
    const store = memoryStore();
    const keep = { ...store, close: async () => {} };
    const proxied = new Proxy(store, {
      get: (target, key) => (key === 'close' ? keep.close : Reflect.get(target, key, target)),
    });
    const bind = new Proxy(proxied, {
      get: (target, key) => {
        const value = Reflect.get(target, key) as unknown;
        return typeof value === 'function' ? value.bind(store) : value;
      },
    });
    const first = await TestServer.start({ store: bind });
    await first.created(CONFIG_MAPS, configMap('a'));
    const { resourceVersion } = (await first.get(CONFIG_MAPS)).body.metadata;
    await first.created(CONFIG_MAPS, configMap('b'));
    await first[Symbol.asyncDispose]();
    await using second = await TestServer.start({ store: bind });
    const watch = second.watch(`${CONFIG_MAPS}?resourceVersion=${resourceVersion}`);
    assert.deepEqual(await watch.take(1), ['ADDED b']);
    watch.stop();
  });

  it('serves many watchers', async () => {
    const path = await newNamespace('watch-many');
    const readers = Array.from({ length: 50 }, () => server.watch(`${path}?resourceVersion=${server.store.revision}`));
    await server.created(path, configMap('a'));
    for (const reader of readers) {
      assert.deepEqual(await reader.take(1), ['ADDED a']);
      reader.stop();
    }
  });
});
