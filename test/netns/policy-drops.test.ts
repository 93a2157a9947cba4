/** Denied packets as the kernel tells of them, protocols that this kernel has no sockets for, masquerade marks through the tiers. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { silentLogger } from '../../src/base/log.ts';
import { MASQUERADE_MARK } from '../../src/base/packet-marks.ts';
import { AF_INET, check, libc, SOCK_CLOEXEC, SOCK_RAW } from '../../src/linux/libc.ts';
import { watchLogGroup } from '../../src/linux/nflog.ts';
import { closeFd, encodeSocketAddress } from '../../src/linux/sockets.ts';
import { PolicyDrops } from '../../src/node/policy/drops.ts';
import { table } from '../../src/node/policy/render.ts';
import { policyObject } from '../../src/node/policy/testing.ts';
import { clusterPolicyObject } from '../../src/node/policy/testing-cluster.ts';
import type { Endpoint } from '../../src/node/policy/testing-matrix.ts';
import { type Agent, PolicyCluster } from './policy-cluster.ts';
import { eventually, PolicyLab, pods, skip } from './policy-lab.ts';

const pod = (name: string): Endpoint => pods.find((each) => each.name === name)!;
const [xa, xb, yb] = ['x/a', 'x/b', 'y/b'].map(pod) as [Endpoint, Endpoint, Endpoint];
const SCTP = 132;

describe('denied packets', { skip }, () => {
  let lab: PolicyLab;
  let cluster: PolicyCluster;
  let agent: Agent;
  const told: string[] = [];

  before(async () => {
    lab = await PolicyLab.create();
  });
  after(async () => lab?.[Symbol.asyncDispose]());
  beforeEach(async () => {
    cluster = await PolicyCluster.create();
    told.length = 0;
    agent = await cluster.startAgent(lab.n1, {
      podTimeoutMs: 100,
      events: {
        event: (object, _type, reason, message) =>
          void told.push(`${object.kind} ${object.metadata.name} ${reason} ${message}`),
      },
    });
    await cluster.startAgent(lab.n2);
    lab.forgetFlows();
  });
  afterEach(async () => {
    await cluster[Symbol.asyncDispose]();
    for (const { eyes } of lab.nodes) eyes.run(`add table ${table}\ndelete table ${table}`);
  });

  test('are told by the node that drops them, with pods and policies, and few of many', async (t) => {
    await cluster.create(policyObject('y/deny', { podSelector: {}, policyTypes: ['Ingress'] }));
    await cluster.create(
      clusterPolicyObject('guard', {
        subject: {
          pods: { podSelector: { matchLabels: { pod: 'b' } }, namespaceSelector: { matchLabels: { ns: 'x' } } },
        },
        egress: [{ action: 'Deny', to: [{ networks: ['192.0.2.0/24'] }] }],
      }),
    );
    await cluster.settled(lab.nodes);
    const state = await cluster.state();
    const abort = new AbortController();
    t.after(() => abort.abort());
    const drops = new PolicyDrops({
      nodeName: 'n1',
      state: () => state,
      watch: (options) => watchLogGroup({ ...options, ns: lab.n1.ns }),
      log: silentLogger,
    });
    await drops.start(abort.signal);
    assert.equal(await lab.connects(xa, yb, 'TCP', 80, 'v4', false), false);
    assert.equal(await lab.connects(xa, yb, 'UDP', 81, 'v6', false), false);
    const world = { ...yb, v4: '192.0.2.10' };
    assert.equal(await lab.connects(xb, world, 'UDP', 80, 'v4', false), false);
    await eventually(() => assert.ok(drops.recent().length >= 3));
    const told = drops.recent().map(({ direction, protocol, source, destination, policies }) => ({
      direction,
      protocol,
      from: source.pod,
      to: destination.pod ?? destination.address,
      port: destination.port,
      policies: policies.join(),
    }));
    assert.deepEqual(told.slice(0, 3), [
      { direction: 'ingress', protocol: 'TCP', from: 'x/a', to: 'y/b', port: 80, policies: 'y/deny' },
      { direction: 'ingress', protocol: 'UDP', from: 'x/a', to: 'y/b', port: 81, policies: 'y/deny' },
      { direction: 'egress', protocol: 'UDP', from: 'x/b', to: '192.0.2.10', port: 80, policies: 'guard' },
    ]);
    let logged = drops.recent().length;
    drops.subscribe(() => logged++);
    for (let i = 0; i < 2000; i++) send(xa, yb, SCTP, 80);
    const { ingress, egress } = agent.controller.deniedPackets()!;
    assert.ok(ingress >= 2002 && egress >= 1, 'every denied packet is counted');
    await eventually(() => assert.ok(drops.recent().length > 50));
    assert.ok(logged < 1000, `${logged} of ${ingress} were logged`);
  });

  const counted = (policy: string, direction = 'ingress') => {
    const all = agent.controller.deniedByPolicy();
    assert.ok(all, 'nft is not at work');
    return all.find((each) => each.policy === policy && each.direction === direction)?.packets;
  };

  test('are counted exactly for each policy that denied them, also when policies and pods change', async () => {
    const isolate = (key: string, ...pods: string[]) =>
      policyObject(key, {
        podSelector: { matchExpressions: [{ key: 'pod', operator: 'In', values: pods }] },
        policyTypes: ['Ingress'],
      });
    await cluster.create(isolate('x/both', 'a', 'b'));
    await cluster.create(isolate('x/only-b', 'b'));
    await cluster.settled(lab.nodes);
    const many = (from: Endpoint, to: Endpoint, count: number, port = 80) => {
      for (let i = 0; i < count; i++) send(from, to, SCTP, port);
    };
    assert.equal(counted('x/both'), 0, 'listed before its first packet');
    many(yb, xa, 7);
    many(yb, xb, 5);
    assert.equal(counted('x/both'), 12);
    assert.equal(counted('x/only-b'), 5);
    // A policy more: the pods move to another class, the counters of the old one go.
    await cluster.create(isolate('x/third', 'b'));
    await cluster.settled(lab.nodes);
    many(yb, xb, 3);
    assert.deepEqual([counted('x/both'), counted('x/only-b'), counted('x/third')], [15, 8, 3]);
    await cluster.client.delete('NetworkPolicy', { namespace: 'x', name: 'only-b' });
    await cluster.settled(lab.nodes);
    many(yb, xb, 2);
    assert.deepEqual([counted('x/both'), counted('x/only-b'), counted('x/third')], [17, 8, 5]);
    // Of ClusterNetworkPolicies the one that decides counts, for its own direction.
    const everybody = { namespaces: {} };
    const out = (name: string, priority: number, port: number) =>
      clusterPolicyObject(name, {
        priority,
        subject: everybody,
        egress: [
          {
            action: 'Deny',
            to: [everybody, { networks: ['192.0.2.0/24'] }],
            protocols: [{ sctp: { destinationPort: { number: port } } }],
          },
        ],
      });
    await cluster.replaceClusterPolicies([out('first', 1, 90), out('second', 2, 90), out('other-port', 3, 91)]);
    await cluster.settled(lab.nodes);
    const world: Endpoint = { ...yb, v4: '192.0.2.10' };
    many(xa, yb, 4, 90);
    many(xa, world, 2, 90);
    many(xa, yb, 1, 91);
    const egress = ['first', 'second', 'other-port'].map((name) => counted(name, 'egress'));
    assert.deepEqual(egress, [6, 0, 1]);
    assert.equal(counted('x/both'), 17, 'nothing else counted');
    assert.deepEqual(agent.controller.deniedPackets(), { ingress: 17, egress: 7 }, 'each packet once in all');
    // A table that has to be loaded anew begins at 0; the counts do not.
    lab.n1.eyes.run(`flush map ${table} identity4`);
    await cluster.create(isolate('x/fourth', 'a'));
    await cluster.client.delete('Pod', { namespace: 'x', name: 'c' }, { gracePeriodSeconds: 0 });
    await cluster.settled(lab.nodes);
    many(yb, xb, 1);
    assert.deepEqual([counted('x/both'), counted('first', 'egress')], [18, 6]);
  });

  test('of an address that nobody knows yet are counted without a policy', async () => {
    await cluster.settled(lab.nodes);
    const before = counted('')!;
    await cluster.client.delete('Pod', { namespace: 'x', name: 'b' }, { gracePeriodSeconds: 0 });
    await cluster.settled(lab.nodes);
    const late = { namespace: 'x', name: 'late', uid: 'u-late', ips: [xb.v4, xb.v6], hostInterface: 'x-b' };
    await agent.controller.attached(late);
    for (let i = 0; i < 3; i++) send(xa, xb, SCTP, 80);
    assert.equal(counted(''), before + 3);
  });

  test('a second receiver of the group is refused', async () => {
    await cluster.settled(lab.nodes);
    const options = { group: 28791, onPacket: () => {}, ns: lab.n1.ns };
    using first = watchLogGroup(options);
    assert.throws(() => watchLogGroup(options), { code: 'EPERM' });
    first.close();
    watchLogGroup(options).close();
  });

  /** A packet with the ports that SCTP, TCP and UDP have in the same place. */
  function send(from: Endpoint, to: Endpoint, protocol: number, dport: number): void {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt16BE(40000, 0);
    bytes.writeUInt16BE(dport, 2);
    const fd = lab
      .namespaceOf(from)
      .run(() => check('open a raw socket', libc.socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, protocol)));
    const address = encodeSocketAddress(to.v4, 0);
    try {
      check('connect', libc.connect(fd, address, address.length));
      libc.send(fd, bytes, bytes.length, 0);
    } finally {
      closeFd(fd);
    }
  }

  test('SCTP ports are enforced by number, although this kernel may have no SCTP sockets', async () => {
    await cluster.create(
      policyObject('y/sctp', {
        podSelector: { matchLabels: { pod: 'b' } },
        ingress: [{ ports: [{ protocol: 'SCTP', port: 80 }] }],
      }),
    );
    await cluster.settled(lab.nodes);
    lab.n1.eyes.run(`table ip count { counter c { };
      chain post { type filter hook postrouting priority 0; ip daddr ${yb.v4} meta l4proto sctp counter name c; }; }`);
    const passed = () => {
      const [found] = lab.n1.eyes.listJson('counter ip count c') as { counter: { packets: number } }[];
      return found!.counter.packets;
    };
    try {
      send(xa, yb, SCTP, 80);
      assert.equal(passed(), 1);
      send(xa, yb, SCTP, 81);
      assert.equal(passed(), 1, 'the other port stays closed');
      assert.equal(await lab.connects(xa, yb, 'TCP', 80, 'v4', false), false, 'and the other protocol');
      await cluster.replaceClusterPolicies([
        clusterPolicyObject('sctp', {
          subject: { namespaces: { matchLabels: { ns: 'y' } } },
          ingress: [
            {
              action: 'Accept',
              from: [{ namespaces: {} }],
              protocols: [{ sctp: { destinationPort: { range: { start: 81, end: 90 } } } }],
            },
          ],
        }),
      ]);
      await cluster.settled(lab.nodes);
      send(xa, yb, SCTP, 81);
      assert.equal(passed(), 2, 'a ClusterNetworkPolicy knows the port too');
      send(xa, yb, SCTP, 91);
      assert.equal(passed(), 2);
      assert.deepEqual(told, [], 'SCTP is enforced: nothing to warn of');
    } finally {
      lab.n1.eyes.run('delete table ip count');
    }
  });

  test('what cannot be enforced is told on the policy and fails closed, of both kinds', async () => {
    await cluster.create(
      policyObject('y/odd', {
        podSelector: { matchLabels: { pod: 'b' } },
        ingress: [{ ports: [{ protocol: 'QUIC', port: 80 }] }, { ports: [{ port: 81 }] }],
      }),
    );
    const subject = {
      pods: { namespaceSelector: { matchLabels: { ns: 'x' } }, podSelector: { matchLabels: { pod: 'a' } } },
    };
    const unknown = [{ agents: {} } as object];
    await cluster.replaceClusterPolicies([
      clusterPolicyObject('odd-accept', { priority: 1, subject, egress: [{ action: 'Accept', to: unknown }] }),
      clusterPolicyObject('odd-deny', { priority: 2, subject, ingress: [{ action: 'Deny', from: unknown }] }),
    ]);
    await cluster.settled(lab.nodes);
    for (const protocol of ['TCP', 'UDP']) {
      const tries = [
        [xa, yb, 80, false, 'an unknown protocol grants nothing'],
        [xa, yb, 81, protocol === 'TCP', 'the other rule holds'],
        [yb, xa, 80, false, 'a Deny rule with an unknown peer denies everything'],
        [xb, xa, 80, false, 'everybody'],
      ] as const;
      for (const [from, to, port, expected, why] of tries)
        assert.equal(await lab.connects(from, to, protocol, port, 'v4', expected), expected, `${why}, ${protocol}`);
    }
    const about = told.map((text) => text.split(' ').slice(0, 3).join(' ')).sort();
    assert.deepEqual(about, [
      'ClusterNetworkPolicy odd-accept PolicyNotEnforceable',
      'ClusterNetworkPolicy odd-deny PolicyNotEnforceable',
      'NetworkPolicy odd PolicyNotEnforceable',
    ]);
    assert.match(told.find((text) => text.startsWith('NetworkPolicy'))!, /spec\.ingress\[0\]\.ports\[0\]\.protocol/);
  });

  test('the masquerade mark comes through all tiers', async () => {
    const mark = `0x${MASQUERADE_MARK.toString(16)}`;
    lab.n1.eyes.run(`table ip services {
      chain pre { type nat hook prerouting priority dstnat;
        ip daddr 10.96.0.1 udp dport 8000 meta mark set ${mark} dnat to ${yb.v4}:80
      }
      chain post { type nat hook postrouting priority srcnat; meta mark & ${mark} == ${mark} masquerade; }
    }`);
    const all = { namespaces: {} };
    const policies = [
      clusterPolicyObject('pass', { subject: all, egress: [{ action: 'Pass', to: [all] }] }),
      clusterPolicyObject('accept', { subject: all, ingress: [{ action: 'Accept', from: [all] }] }),
      clusterPolicyObject('base', { tier: 'Baseline', subject: all, egress: [{ action: 'Pass', to: [all] }] }),
    ];
    try {
      await cluster.replaceClusterPolicies(policies);
      await cluster.settled(lab.nodes);
      const service: Endpoint = { ...yb, name: 'service', v4: '10.96.0.1' };
      assert.ok(await lab.connects(xa, service, 'UDP', 8000, 'v4', true));
      assert.match(lab.lastSource.get('y/b')!, /^169\.254|^172\.18/, 'masqueraded');
      await cluster.replaceClusterPolicies([
        ...policies,
        clusterPolicyObject('deny', { priority: 1, subject: all, ingress: [{ action: 'Deny', from: [all] }] }),
      ]);
      await cluster.settled(lab.nodes);
      lab.forgetFlows();
      assert.equal(await lab.connects(xa, service, 'UDP', 8000, 'v4', false), false);
    } finally {
      lab.n1.eyes.run('delete table ip services');
    }
  });
});
