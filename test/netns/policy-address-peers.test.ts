/**
 * Peers of ClusterNetworkPolicies that are chosen by address, with packets: nodes by their labels, and domain names by the
 * answers of the node's own DNS server.
 */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { FakeClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/log.ts';
import { FakeClient } from '../../src/kube/fake-client.ts';
import { Informer } from '../../src/kube/informer.ts';
import type { ClusterNetworkPolicy, Draft, Node } from '../../src/kube/types.ts';
import { encode } from '../../src/node/dns/chain.ts';
import { DnsController } from '../../src/node/dns/controller.ts';
import { decodeQuery } from '../../src/node/dns/decode.ts';
import { question } from '../../src/node/dns/fixtures.ts';
import { bareAnswer, Rcode } from '../../src/node/dns/wire.ts';
import { graceMs } from '../../src/node/policy/domain-names.ts';
import { table } from '../../src/node/policy/render.ts';
import { nodeObject } from '../../src/node/policy/testing.ts';
import { clusterPolicyObject } from '../../src/node/policy/testing-cluster.ts';
import type { Endpoint } from '../../src/node/policy/testing-matrix.ts';
import { type Agent, PolicyCluster } from './policy-cluster.ts';
import { eventually, families, node2, PolicyLab, pods, skip, world } from './policy-lab.ts';

const [xa, ya] = ['x/a', 'y/a'].map((name) => pods.find((each) => each.name === name)!) as [Endpoint, Endpoint];
const everywhere = { networks: ['0.0.0.0/0', '::/0'] };
const inX = { namespaces: { matchLabels: { ns: 'x' } } };

describe('peers by address', { skip }, () => {
  let lab: PolicyLab;
  let cluster: PolicyCluster;
  let agent: Agent;

  before(async () => {
    lab = await PolicyLab.create();
  });
  after(async () => {
    await lab?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    cluster = await PolicyCluster.create();
    agent = await cluster.startAgent(lab.n1);
    await cluster.startAgent(lab.n2);
    lab.forgetFlows();
  });
  afterEach(async () => {
    await cluster[Symbol.asyncDispose]();
    for (const { eyes } of lab.nodes) eyes.run(`add table ${table}\ndelete table ${table}`);
  });

  const reaches = async (from: Endpoint, to: Endpoint, expected: boolean, port = 80) => {
    for (const family of families) {
      for (const protocol of ['TCP', 'UDP']) {
        const passed = await lab.connects(from, to, protocol, port, family, expected);
        assert.equal(passed, expected, `${from.name} -> ${to.name} ${protocol}:${port} ${family}`);
      }
    }
  };
  const node = (name: string, addresses: readonly string[], labels: Record<string, string>) => {
    const object = nodeObject(name, addresses);
    return cluster.create({ ...object, metadata: { ...object.metadata, labels } } as Draft<Node> as Node);
  };

  test('nodes: by their labels, which may change; elements change, chains never', async () => {
    await node('n2', [node2.v4, node2.v6, 'n2.example'], { zone: 'west' });
    const policies: ClusterNetworkPolicy[] = [
      clusterPolicyObject('no-west', {
        subject: inX,
        egress: [
          {
            action: 'Accept',
            to: [{ nodes: { matchLabels: { zone: 'west' } } }],
            protocols: [{ tcp: { destinationPort: { number: 81 } } }, { udp: { destinationPort: { number: 81 } } }],
          },
          { action: 'Deny', to: [{ nodes: { matchLabels: { zone: 'west' } } }] },
        ],
      }),
    ];
    await cluster.replaceClusterPolicies(policies);
    await cluster.settled(lab.nodes);
    const chains = () =>
      lab.n1.eyes
        .list(`table ${table}`)
        .split(/\n(?=\tchain)/)
        .slice(1)
        .join('');
    const before = chains();
    await reaches(xa, node2, false);
    await reaches(xa, node2, true, 81);
    await reaches(ya, node2, true);
    await reaches(xa, world, true);
    await cluster.client.patch('Node', { name: 'n2' }, { metadata: { labels: { zone: 'east' } } });
    await cluster.settled(lab.nodes);
    lab.forgetFlows();
    await reaches(xa, node2, true);
    await cluster.client.patch('Node', { name: 'n2' }, { metadata: { labels: { zone: 'west' } } });
    await cluster.settled(lab.nodes);
    lab.forgetFlows();
    await reaches(xa, node2, false);
    await cluster.client.patch('Node', { name: 'n2' }, { status: { addresses: [] } }, { subresource: 'status' });
    await cluster.settled(lab.nodes);
    lab.forgetFlows();
    await reaches(xa, node2, true);
    assert.equal(chains(), before);
  });

  test('nodes: an Accept before a Deny of all networks opens them only', async () => {
    await node('n2', [node2.v4, node2.v6], {});
    await cluster.replaceClusterPolicies([
      clusterPolicyObject('nodes-only', {
        subject: inX,
        egress: [
          { action: 'Accept', to: [{ nodes: {} }] },
          { action: 'Deny', to: [everywhere] },
        ],
      }),
    ]);
    await cluster.settled(lab.nodes);
    await reaches(xa, node2, true);
    await reaches(xa, world, false);
    await reaches(xa, ya, false);
  });

  test('domain names: allowed when the answer arrives, and no longer than it is good', async (t) => {
    const abort = new AbortController();
    t.after(() => abort.abort());
    const upstream = createSocket('udp4');
    t.after(() => upstream.close());
    upstream.on('message', (packet, from) => {
      const decoded = decodeQuery(packet);
      if (decoded.kind !== 'query') return;
      const { query } = decoded;
      const own = query.name === 'www.example.com' ? world : { v4: '192.0.2.99', v6: '2001:db8::99' };
      const record =
        query.type === 1
          ? ({ type: 'A', name: query.name, ttl: 1, address: own.v4 } as const)
          : ({ type: 'AAAA', name: query.name, ttl: 1, address: own.v6 } as const);
      upstream.send(encode(query, 'udp', { ...bareAnswer(Rcode.noError), answers: [record] }), from.port, from.address);
    });
    upstream.bind(0, '127.0.0.1');
    await once(upstream, 'listening');
    const client = new FakeClient();
    await client.create('Namespace', { metadata: { name: 'default' } });
    const common = { client, log: silentLogger };
    const informers = {
      services: new Informer('Service', common),
      slices: new Informer('EndpointSlice', common),
      namespaces: new Informer('Namespace', common),
      pods: new Informer('Pod', common),
    };
    const dns = new DnsController({
      client,
      informers,
      nodeName: 'n1',
      nodeAddresses: ['127.0.0.1'],
      dnsAddresses: ['10.96.0.10'],
      domain: 'cluster.local',
      podCidrs: ['10.244.0.0/16'],
      serviceCidrs: ['10.96.0.0/16'],
      upstreams: [{ address: '127.0.0.1', port: upstream.address().port }],
      onAnswer: (names, addresses) => agent.controller.resolved(names, addresses),
      log: silentLogger,
      port: 0,
    });
    await dns.start(abort.signal);
    await Promise.all(Object.values(informers).map((informer) => informer.start(abort.signal)));
    const asking = createSocket('udp4');
    t.after(() => asking.close());
    const resolve = async (name: string) => {
      for (const type of ['A', 'AAAA']) {
        asking.send(question(name, type, { id: 1 }), dns.port, '127.0.0.1');
        await once(asking, 'message');
      }
    };

    await cluster.replaceClusterPolicies([
      clusterPolicyObject('names', {
        subject: inX,
        egress: [
          { action: 'Accept', to: [{ domainNames: ['*.example.com'] }] },
          { action: 'Deny', to: [everywhere] },
        ],
      }),
    ]);
    await cluster.settled(lab.nodes);
    await reaches(xa, world, false);
    await resolve('www.example.org');
    await reaches(xa, world, false);
    await resolve('www.example.com');
    // Not a moment later: a connection that begins with the answer in hand passes.
    await reaches(xa, world, true);
    await reaches(xa, ya, false);
    assert.match(lab.n1.eyes.list(`map ${table} identity4`), /192\.0\.2\.10 : /);
    assert.ok(graceMs >= 10_000, 'a client has time to connect');
  });

  test('domain names: the address goes with its time', async () => {
    const clock = new FakeClock();
    await cluster.stopAgent(lab.n1);
    await cluster.replaceClusterPolicies([
      clusterPolicyObject('names', {
        subject: inX,
        egress: [
          { action: 'Accept', to: [{ domainNames: ['example.com'] }] },
          { action: 'Deny', to: [everywhere] },
        ],
      }),
    ]);
    agent = await cluster.startAgent(lab.n1, { clock });
    const addresses = [world.v4, world.v6].map((address) => ({ address, ttl: 60 }));
    await agent.controller.resolved(['example.com'], addresses);
    await reaches(xa, world, true);
    const established = await lab.connectTcp(xa, world.v4, 80);
    await clock.advance(60_000 + graceMs);
    await clock.advance(100);
    await eventually(() => assert.doesNotMatch(lab.n1.eyes.list(`map ${table} identity4`), /192\.0\.2\.10/));
    await reaches(xa, world, false);
    const echo = once(established, 'data');
    established.write('still here');
    await echo;
    established.destroy();
  });
});
