/** The whole component over FakeClient, asked over sockets of 127.0.0.1. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { silentLogger } from '../../base/log.ts';
import { FakeClient } from '../../kube/fake-client.ts';
import { Informer } from '../../kube/informer.ts';
import { DnsController } from './controller.ts';
import { type OracleResponse, type QuestionOptions, question, readResponse } from './fixtures.ts';

type Context = { after(fn: () => void): void };

async function setUp(t: Context, { sync = true } = {}) {
  const client = new FakeClient();
  await client.create('Namespace', { metadata: { name: 'default' } });
  await client.create('Node', { metadata: { name: 'node-1' }, spec: {} });
  const abort = new AbortController();
  t.after(() => abort.abort());
  const log = silentLogger;
  const informers = {
    services: new Informer('Service', { client, log }),
    slices: new Informer('EndpointSlice', { client, log }),
    namespaces: new Informer('Namespace', { client, log }),
    pods: new Informer('Pod', { client, log }),
  };
  const dns = new DnsController({
    client,
    informers,
    nodeName: 'node-1',
    nodeAddresses: ['127.0.0.1'],
    dnsAddresses: ['10.96.0.10'],
    domain: 'cluster.local',
    podCidrs: ['10.244.0.0/16'],
    serviceCidrs: ['10.96.0.0/16'],
    log,
    port: 0,
  });
  await dns.start(abort.signal);
  const syncAll = () => Promise.all(Object.values(informers).map((informer) => informer.start(abort.signal)));
  if (sync) await syncAll();
  return { client, dns, abort, syncAll, ask: asker(t, dns.port) };
}

/** Asks over UDP, one after the other, with rising ids. */
function asker(t: Context, port: number) {
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  let id = 100;
  return async (name: string, type = 'A', options: QuestionOptions = {}): Promise<OracleResponse> => {
    socket.send(question(name, type, { id: ++id, ...options }), port, '127.0.0.1');
    const [message] = (await once(socket, 'message')) as [Buffer];
    const response = readResponse(message);
    assert.equal(response.id, id);
    assert.equal(response.questions[0]!.name, name);
    return response;
  };
}

async function askOverTcp(port: number, name: string): Promise<OracleResponse> {
  const socket = connect(port, '127.0.0.1');
  const packet = question(name, 'A');
  const length = Buffer.alloc(2);
  length.writeUInt16BE(packet.length);
  socket.end(Buffer.concat([length, packet]));
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  return readResponse(Buffer.concat(chunks).subarray(2));
}

/** Asks until the answer is as wanted: informers are told of changes a moment later. */
async function until<T>(get: () => Promise<T>, wanted: (value: T) => boolean): Promise<T> {
  for (let i = 0; i < 200; i++) {
    const value = await get();
    if (wanted(value)) return value;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return assert.fail('the answer never became as wanted');
}

const WEB = 'web.default.svc.cluster.local';
const addressOf = ({ answers }: OracleResponse) => answers[0]?.data;

describe('DnsController', () => {
  test('SERVFAIL until synced, then answers', async (t) => {
    const { client, ask, syncAll } = await setUp(t, { sync: false });
    await client.create('Service', {
      metadata: { name: 'web', namespace: 'default' },
      spec: { clusterIP: '10.96.0.1' },
    });
    assert.equal((await ask(WEB)).rcode, 'SERVFAIL');
    await syncAll();
    assert.equal(addressOf(await ask(WEB)), '10.96.0.1');
  });

  test('an answer is never older than the last change', async (t) => {
    const { client, ask } = await setUp(t);
    assert.equal((await ask(WEB)).rcode, 'NXDOMAIN');
    assert.equal((await ask(WEB)).rcode, 'NXDOMAIN');
    const at = { name: 'web', namespace: 'default' };
    await client.create('Service', { metadata: at, spec: { clusterIP: '10.96.0.1' } });
    await until(
      () => ask(WEB),
      (response) => addressOf(response) === '10.96.0.1',
    );
    await client.patch('Service', at, { spec: { clusterIP: '10.96.0.2' } });
    await until(
      () => ask(WEB),
      (response) => addressOf(response) === '10.96.0.2',
    );
    await client.delete('Service', at);
    await until(
      () => ask(WEB),
      (response) => response.rcode === 'NXDOMAIN',
    );
  });

  test('endpoints, pods and namespaces come and go', async (t) => {
    const { client, ask } = await setUp(t);
    const db = 'db.default.svc.cluster.local';
    await client.create('Service', { metadata: { name: 'db', namespace: 'default' }, spec: { clusterIP: 'None' } });
    const slice = { name: 'db-1', namespace: 'default' };
    await client.create('EndpointSlice', {
      metadata: { ...slice, labels: { 'kubernetes.io/service-name': 'db' } },
      addressType: 'IPv4',
      endpoints: [{ addresses: ['10.244.1.5'], hostname: 'db-0' }],
    });
    await until(
      () => ask(db),
      (response) => addressOf(response) === '10.244.1.5',
    );
    assert.equal((await ask('5.1.244.10.in-addr.arpa', 'PTR')).answers[0]?.data, `db-0.${db}`);
    await client.patch('EndpointSlice', slice, {
      endpoints: [{ addresses: ['10.244.1.5'], conditions: { ready: false } }],
    });
    await until(
      () => ask(db),
      (response) => response.rcode === 'NXDOMAIN',
    );

    const podName = '10-244-1-9.default.pod.cluster.local';
    assert.equal((await ask(podName)).rcode, 'NXDOMAIN');
    const pod = { name: 'p', namespace: 'default' };
    await client.create('Pod', { metadata: pod, spec: { containers: [] } });
    await client.patch(
      'Pod',
      pod,
      { status: { podIP: '10.244.1.9', podIPs: [{ ip: '10.244.1.9' }] } },
      { subresource: 'status' },
    );
    await until(
      () => ask(podName),
      (response) => addressOf(response) === '10.244.1.9',
    );
    await client.patch('Pod', pod, { status: { phase: 'Succeeded' } }, { subresource: 'status' });
    await until(
      () => ask(podName),
      (response) => response.rcode === 'NXDOMAIN',
    );

    assert.equal((await ask('late.svc.cluster.local')).rcode, 'NXDOMAIN');
    await client.create('Namespace', { metadata: { name: 'late' } });
    await until(
      () => ask('late.svc.cluster.local'),
      (response) => response.rcode === 'NOERROR',
    );
  });

  test('publishes itself and answers its own name', async (t) => {
    const { client, ask } = await setUp(t);
    await until(
      () => ask('kube-dns.kube-system.svc.cluster.local'),
      () => true,
    );
    await until(
      () => client.list('EndpointSlice', { namespace: 'kube-system' }),
      ({ items }) => items.length === 1,
    );
    assert.equal(
      (await client.get('Service', { name: 'kube-dns', namespace: 'kube-system' })).spec.clusterIP,
      '10.96.0.10',
    );
  });

  test('metrics count what was asked and what was said', async (t) => {
    const { dns, ask } = await setUp(t);
    for (let i = 0; i < 5; i++) await ask('nope.cluster.local');
    await ask('cluster.local', 'SOA');
    await ask('example.com');
    await askOverTcp(dns.port, 'nope.cluster.local');
    assert.equal(dns.metrics.udp, 7);
    assert.equal(dns.metrics.tcp, 1);
    assert.equal(dns.metrics.cacheHits, 4);
    assert.deepEqual(dns.metrics.byRcode.slice(0, 6), [1, 0, 0, 6, 0, 1]);
  });

  test('a long answer is cut over UDP and whole over TCP, from the chain and from the cache', async (t) => {
    const { client, ask, dns } = await setUp(t);
    const name = 'many.default.svc.cluster.local';
    await client.create('Service', { metadata: { name: 'many', namespace: 'default' }, spec: { clusterIP: 'None' } });
    await client.create('EndpointSlice', {
      metadata: { name: 'many-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'many' } },
      addressType: 'IPv4',
      endpoints: Array.from({ length: 200 }, (_, i) => ({ addresses: [`10.244.2.${i}`] })),
    });
    await until(
      () => ask(name),
      (response) => response.rcode === 'NOERROR',
    );
    for (let i = 0; i < 10; i++) {
      const small = await ask(name);
      assert.ok(small.flag_tc && small.answers.length > 20 && small.answers.length < 40);
      const large = await ask(name, 'A', { edns: { udpPayloadSize: 4096 } });
      assert.ok(large.flag_tc && large.answers.length > 60 && large.answers.length < 80);
      const whole = await askOverTcp(dns.port, name);
      assert.ok(!whole.flag_tc);
      assert.equal(new Set(whole.answers.map(({ data }) => data)).size, 200);
    }
  });

  test('ends with its signal, and the port is free again', async (t) => {
    const { abort, dns } = await setUp(t);
    const held = connect(dns.port, '127.0.0.1');
    await once(held, 'connect');
    held.resume();
    const closed = once(held, 'close');
    abort.abort();
    await closed;
    const again = createSocket('udp4');
    again.bind(dns.port, '127.0.0.1');
    await once(again, 'listening');
    again.close();
  });

  test('an address that is not here fails the start, and leaves no socket open', async () => {
    const client = new FakeClient();
    const informer = <K extends 'Service' | 'EndpointSlice' | 'Namespace' | 'Pod'>(kind: K) =>
      new Informer(kind, { client, log: silentLogger });
    const dns = new DnsController({
      client,
      informers: {
        services: informer('Service'),
        slices: informer('EndpointSlice'),
        namespaces: informer('Namespace'),
        pods: informer('Pod'),
      },
      nodeName: 'node-1',
      nodeAddresses: ['127.0.0.1', '192.0.2.1'],
      dnsAddresses: ['10.96.0.10'],
      domain: 'cluster.local',
      podCidrs: [],
      serviceCidrs: [],
      log: silentLogger,
      port: 0,
    });
    await assert.rejects(dns.start(new AbortController().signal), /EADDRNOTAVAIL|cannot assign/i);
    const again = createSocket('udp4');
    again.bind(dns.port, '127.0.0.1');
    await once(again, 'listening');
    again.close();
  });
});
