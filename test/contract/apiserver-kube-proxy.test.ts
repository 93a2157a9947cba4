/** What the real kube-proxy (1.36) asks of an API server, as its informers ask: `npm run bench -- services` runs it whole. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestServer, type WatchReader } from './fixtures/api-server.ts';

const WATCH_LIST = 'allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true';
/** It prefers protobuf and takes what comes. */
const ACCEPT = { accept: 'application/vnd.kubernetes.protobuf, application/json' };
const INITIAL_END = 'k8s.io/initial-events-end';

describe('what kube-proxy asks for', () => {
  let server: TestServer;
  before(async () => {
    server = await TestServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  const watch = (collection: string, selectors: Readonly<Record<string, string>>): WatchReader =>
    server.watch(`${collection}?${WATCH_LIST}&${new URLSearchParams(selectors)}`, ACCEPT);

  /** The names of what is told first, sorted; behind them comes a bookmark. */
  async function initial(reader: WatchReader): Promise<string[]> {
    const names: string[] = [];
    for (;;) {
      const event = await reader.next();
      assert.ok(event, 'the watch ended early');
      if (event.type === 'BOOKMARK') {
        assert.equal(event.object.metadata.annotations[INITIAL_END], 'true');
        return names.sort();
      }
      assert.equal(event.type, 'ADDED');
      names.push(event.object.metadata.name);
    }
  }

  const service = (name: string, spec: object = {}, labels: object = {}) =>
    server.created('/api/v1/namespaces/default/services', {
      metadata: { name, labels },
      spec: { ports: [{ port: 80 }], ...spec },
    });

  it('Services that are neither headless nor of another proxy, first and then as they change', async () => {
    await service('plain');
    await service('headless', { clusterIP: 'None' });
    await service('foreign', {}, { 'service.kubernetes.io/service-proxy-name': 'other' });
    const reader = watch('/api/v1/services', {
      fieldSelector: 'spec.clusterIP!=None',
      labelSelector: '!service.kubernetes.io/service-proxy-name',
    });
    assert.deepEqual(await initial(reader), ['kubernetes', 'plain']);
    await service('headless-too', { clusterIP: 'None' });
    await service('late');
    assert.deepEqual(await reader.take(1), ['ADDED late']);
    reader.stop();
  });

  it('EndpointSlices of Services that are not headless', async () => {
    const slice = (name: string, labels: object) =>
      server.created('/apis/discovery.k8s.io/v1/namespaces/default/endpointslices', {
        metadata: { name, labels: { 'kubernetes.io/service-name': 'plain', ...labels } },
        addressType: 'IPv4',
        endpoints: [{ addresses: ['10.244.0.2'] }],
        ports: [{ name: '', port: 80, protocol: 'TCP' }],
      });
    await slice('with-address', {});
    await slice('without-address', { 'service.kubernetes.io/headless': '' });
    const reader = watch('/apis/discovery.k8s.io/v1/endpointslices', {
      labelSelector: '!service.kubernetes.io/headless',
    });
    assert.deepEqual(await initial(reader), ['kubernetes', 'with-address']);
    reader.stop();
  });

  it('the Node it runs on, by name', async () => {
    for (const name of ['n1', 'n2']) await server.created('/api/v1/nodes', { metadata: { name } });
    const reader = watch('/api/v1/nodes', { fieldSelector: 'metadata.name=n1' });
    assert.deepEqual(await initial(reader), ['n1']);
    reader.stop();
  });
});
