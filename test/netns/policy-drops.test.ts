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

  before(async () => {
    lab = await PolicyLab.create();
  });
  after(async () => lab?.[Symbol.asyncDispose]());
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
    for (let i = 0; i < 2000; i++) send(xa, yb, SCTP, 80);
    const { ingress, egress } = agent.controller.deniedPackets()!;
    assert.ok(ingress >= 2002 && egress >= 1, 'every denied packet is counted');
    await eventually(() => assert.ok(drops.recent().length > 50));
    const logged = drops.counts().reduce((sum, { count }) => sum + count, 0);
    assert.ok(logged < 1000, `${logged} of ${ingress} were logged`);
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
    } finally {
      lab.n1.eyes.run('delete table ip count');
    }
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
