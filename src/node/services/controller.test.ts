import assert from 'node:assert/strict';
import { get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, describe, it } from 'node:test';
import { silentLogger } from '../../base/log.ts';
import { FakeClient } from '../../kube/fake-client.ts';
import { Informer } from '../../kube/informer.ts';
import type { KindMap, KindName } from '../../kube/types.ts';
import { ServicesController } from './controller.ts';
import { makeNode, makePod, makeService, makeSlice } from './fixtures.ts';
import type { Listen } from './health.ts';
import type { Problem } from './model.ts';
import { FakeNft } from './nftables/fake-nft.ts';
import { nftablesRules } from './nftables/reconciler.ts';

const TABLE = 'ip podwire-services';

const abort = new AbortController();
after(() => abort.abort());

async function start(
  options: { listen?: Listen; nodeAddresses?: readonly string[]; onSynced?: (version: number) => void } = {},
) {
  const client = new FakeClient();
  const nft = new FakeNft();
  const problems: Problem[] = [];
  const informer = <K extends KindName>(kind: K) => new Informer(kind, { client, log: silentLogger });
  await client.create('Node', makeNode('n1', ['192.0.2.1'], 'z1'));
  const controller = new ServicesController({
    nodeName: 'n1',
    informers: {
      services: informer('Service'),
      endpointSlices: informer('EndpointSlice'),
      pods: informer('Pod'),
      nodes: informer('Node'),
    },
    rules: nftablesRules(nft),
    podCidrs: ['10.244.0.0/16'],
    serviceCidrs: ['10.96.0.0/16'],
    log: silentLogger,
    onGarbage: (problem) => problems.push(problem),
    ...options,
  });
  const services = () => nft.listing(TABLE, ['services']).map((line) => line.slice('services '.length));
  const endpoints = () => nft.listing(TABLE, ['endpoints']).map((line) => line.split(' : ')[1]);
  return { client, nft, problems, controller, services, endpoints };
}

async function eventually(check: () => void): Promise<void> {
  for (let i = 0; ; i++) {
    try {
      return check();
    } catch (error) {
      if (i >= 300) throw error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

const service = () => makeService('web', { clusterIPs: ['10.96.0.10'], ports: [{ port: 80 }] });
const slice = (...addresses: string[]) => makeSlice('web', addresses, [{ name: '', port: 8080 }]);

/** Objects of the fixtures as the fake server holds them. */
async function update<K extends KindName>(client: FakeClient, kind: K, object: KindMap[K]): Promise<void> {
  const { namespace, name } = object.metadata as { namespace?: string; name: string };
  const { metadata } = await client.get(kind, { namespace, name });
  await client.update(kind, { ...object, metadata: { ...object.metadata, ...pick(metadata) } } as KindMap[K]);
}
const pick = ({
  uid,
  resourceVersion,
  creationTimestamp,
}: {
  uid: string;
  resourceVersion: string;
  creationTimestamp: string;
}) => ({
  uid,
  resourceVersion,
  creationTimestamp,
});

describe('services controller', () => {
  it('applies nothing before everything is known, then all of it at once', async () => {
    const { client, nft, controller, services } = await start();
    await client.create('Service', service());
    await client.create('EndpointSlice', slice('10.244.0.2'));
    await controller.start(abort.signal);
    // The tables, a chain, and all elements.
    assert.equal(nft.transactions.length, 3);
    assert.equal(nft.transactions.filter((text) => text.includes('10.96.0.10')).length, 1);
    assert.deepEqual(services(), ['10.96.0.10 . tcp . 80 : 1']);
  });

  it('tells which version of the slices is in force, never before it is', async () => {
    const synced: number[] = [];
    const inForce = () => endpoints().length;
    const counts: number[] = [];
    const { client, controller, nft, endpoints } = await start({
      onSynced(version) {
        synced.push(version);
        counts.push(inForce());
      },
    });
    await client.create('Service', service());
    const first = await client.create('EndpointSlice', slice('10.244.0.2'));
    await controller.start(abort.signal);
    assert.deepEqual([synced, counts], [[Number(first.metadata.resourceVersion)], [1]]);
    await update(client, 'EndpointSlice', slice('10.244.0.2', '10.244.0.3'));
    const second = await client.get('EndpointSlice', first.metadata);
    await eventually(() => assert.equal(synced.at(-1), Number(second.metadata.resourceVersion)));
    assert.equal(counts[synced.indexOf(synced.at(-1)!)], 2);
    assert.ok(nft.transactions.length > 1);
  });

  it('follows Services and slices, and sweeps what removals leave', async () => {
    const { client, controller, services, endpoints } = await start();
    await controller.start(abort.signal);
    await client.create('Service', service());
    await eventually(() => assert.deepEqual(services(), [`10.96.0.10 . tcp . 80 : ${0xfffffe}`]));
    await client.create('EndpointSlice', slice('10.244.0.2', '10.244.0.3'));
    await eventually(() => assert.deepEqual(services(), ['10.96.0.10 . tcp . 80 : 2']));
    await update(client, 'EndpointSlice', slice('10.244.0.3'));
    await eventually(() => assert.deepEqual(endpoints(), ['10.244.0.3 . 8080']));
    await client.delete('Service', { namespace: 'default', name: 'web' });
    await eventually(() => assert.deepEqual([...services(), ...endpoints()], []));
    assert.equal(controller.metrics.rebuilds, 1);
  });

  it('serves host ports of this node, and NodePorts on the addresses that its Node object names', async () => {
    const { client, controller, services } = await start();
    await controller.start(abort.signal);
    const ports = [{ containerPort: 80, hostPort: 8080 }];
    await client.create('Pod', makePod('web', { nodeName: 'n1', containers: [{ name: 'c', ports }] }, ['10.244.0.7']));
    await eventually(() => assert.deepEqual(services(), ['192.0.2.1 . tcp . 8080 : 1']));
    const node = await client.get('Node', { name: 'n1' });
    await client.updateStatus('Node', { ...node, status: makeNode('n1', ['192.0.2.77']).status! });
    await eventually(() => assert.deepEqual(services(), ['192.0.2.77 . tcp . 8080 : 1']));
    controller.setNodeAddresses(['192.0.2.5', '192.0.2.6']);
    await eventually(() => assert.equal(services().length, 2));
    await client.delete('Pod', { namespace: 'default', name: 'web' }, { gracePeriodSeconds: 0 });
    await eventually(() => assert.deepEqual(services(), []));
  });

  it('writes the pod CIDRs that its Node object is given, and keeps them without it', async () => {
    const { client, nft, controller } = await start();
    await controller.start(abort.signal);
    assert.match(nft.transactions.join(''), /set own-pod-cidrs \{[^=]*\}/);
    const node = await client.get('Node', { name: 'n1' });
    await client.update('Node', { ...node, spec: { ...node.spec, podCIDRs: ['10.244.3.0/24', 'fd00:10:244:3::/64'] } });
    const written = () => nft.transactions.join('').match(/set own-pod-cidrs .*elements = .*/g);
    await eventually(() => assert.match(written()?.[0] ?? '', /10\.244\.3\.0\/24/));
    assert.equal(controller.metrics.rebuilds, 2);
    await client.delete('Node', { name: 'n1' });
    await client.create('Service', service());
    await eventually(() => assert.equal(controller.metrics.services, 1));
    assert.equal(controller.metrics.rebuilds, 2);
  });

  it('writes new pod CIDRs', async () => {
    const { nft, controller } = await start();
    await controller.start(abort.signal);
    controller.setPodCidrs(['10.55.0.0/16']);
    await eventually(() => assert.match(nft.transactions.join(''), /set pod-cidrs .*10\.55\.0\.0\/16/));
  });

  it('tells of garbage once', async () => {
    const { client, controller, problems } = await start();
    await controller.start(abort.signal);
    await client.create('Service', service());
    await client.create('EndpointSlice', slice('127.0.0.1', '10.244.0.2'));
    await eventually(() => assert.equal(problems.length, 1));
    await update(client, 'EndpointSlice', slice('127.0.0.1', '10.244.0.3'));
    await eventually(() => assert.ok(controller.metrics.syncs >= 3));
    assert.equal(problems.length, 1);
  });

  it('answers health checks of load balancers', async () => {
    const ports: number[] = [];
    const listen: Listen = (server) =>
      server.listen(0, '127.0.0.1', () => ports.push((server.address() as AddressInfo).port));
    const { client, controller } = await start({ listen });
    const spec = {
      type: 'LoadBalancer',
      clusterIPs: ['10.96.0.10'],
      externalTrafficPolicy: 'Local',
      healthCheckNodePort: 32000,
    };
    await client.create('Service', makeService('web', { ...spec, ports: [{ port: 80 }] }));
    await controller.start(abort.signal);
    await eventually(() => assert.equal(ports.length, 1));
    assert.deepEqual(await ask(ports[0]!), { status: 503, weight: '0', local: 0 });
    const local = makeSlice('web', [{ address: '10.244.0.2', node: 'n1' }], [{ name: '', port: 80 }]);
    await client.create('EndpointSlice', local);
    await eventually(() => assert.ok(controller.metrics.syncs >= 2));
    await eventually(() => assert.equal(controller.metrics.frontends > 0, true));
    assert.deepEqual(await ask(ports[0]!), { status: 200, weight: '1', local: 1 });
    await client.delete('Service', { namespace: 'default', name: 'web' });
    await eventually(() => assert.equal(controller.metrics.services, 0));
    await assert.rejects(ask(ports[0]!), /ECONNREFUSED/);
  });
});

function ask(port: number): Promise<{ status: number | undefined; weight: unknown; local: number }> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path: '/healthz', agent: false }, (response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () => {
        const weight = response.headers['x-load-balancing-endpoint-weight'];
        resolve({ status: response.statusCode, weight, local: JSON.parse(body).localEndpoints });
      });
    }).on('error', reject);
  });
}
