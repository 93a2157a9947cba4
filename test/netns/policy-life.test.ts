/** What NetworkPolicy promises beside its rules: established flows, Services, new and gone pods, restarts of the agent. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MASQUERADE_MARK } from '../../src/base/packet-marks.ts';
import { probeUdp } from '../../src/cluster/probe-udp.ts';
import { connectTcp } from '../../src/linux/sockets.ts';
import type { AttachedPod } from '../../src/node/policy/controller.ts';
import { table } from '../../src/node/policy/render.ts';
import { podObject, policyObject } from '../../src/node/policy/testing.ts';
import { clusterPolicyObject } from '../../src/node/policy/testing-cluster.ts';
import type { Endpoint } from '../../src/node/policy/testing-matrix.ts';
import { type Agent, PolicyCluster } from './policy-cluster.ts';
import { eventually, families, node1, node2, PolicyLab, pods, skip } from './policy-lab.ts';

const pod = (name: string): Endpoint => pods.find((each) => each.name === name)!;
const [xa, xb, xc, ya, yb] = ['x/a', 'x/b', 'x/c', 'y/a', 'y/b'].map(pod) as [
  Endpoint,
  Endpoint,
  Endpoint,
  Endpoint,
  Endpoint,
];
const denyIngress = (key: string) => policyObject(key, { podSelector: {}, policyTypes: ['Ingress'] });
const fromPod = (name: string) => ({ namespaceSelector: {}, podSelector: { matchLabels: { pod: name } } });

const attachedPod = (endpoint: Endpoint, uid: string, name = endpoint.pod): AttachedPod => ({
  namespace: endpoint.ns,
  name,
  uid,
  ips: [endpoint.v4, endpoint.v6],
  hostInterface: `${endpoint.ns}-${endpoint.pod}`,
});

/** Sends a word over an echo server's connection and waits for it. */
async function echoes(socket: Socket, word: string): Promise<boolean> {
  const answer = once(socket, 'data') as Promise<[Buffer]>;
  socket.write(word);
  const first = await Promise.race([answer, sleep(2000)]);
  return first?.[0].toString() === word;
}

describe('policy in the life of pods', { skip }, () => {
  let lab: PolicyLab;
  let cluster: PolicyCluster;
  let agent: Agent;

  before(async () => {
    lab = await PolicyLab.create();
  });
  after(async () => lab?.[Symbol.asyncDispose]());
  beforeEach(async () => {
    cluster = await PolicyCluster.create();
    agent = await cluster.startAgent(lab.n1, { podTimeoutMs: 100 });
    await cluster.startAgent(lab.n2);
    lab.forgetFlows();
  });
  afterEach(async () => {
    await cluster[Symbol.asyncDispose]();
    for (const { eyes } of lab.nodes) eyes.run(`add table ${table}\ndelete table ${table}`);
  });

  const tcp = (from: Endpoint, to: Endpoint, expected: boolean, port = 80) =>
    lab.connects(from, to, 'TCP', port, 'v4', expected);
  /** Both families and protocols give the same answer. */
  const reaches = async (from: Endpoint, to: Endpoint, expected: boolean) => {
    for (const family of families) {
      for (const protocol of ['TCP', 'UDP']) {
        const passed = await lab.connects(from, to, protocol, 80, family, expected);
        assert.equal(passed, expected, `${from.name} -> ${to.name} ${protocol} ${family}`);
      }
    }
  };

  test('established connections go on under a new deny, new ones do not', async () => {
    using udp = lab.udp(xa, yb.v4);
    assert.ok(await udp.asks(yb.v4, 80, 2000));
    const sockets = await Promise.all(families.map((family) => lab.connectTcp(xa, yb[family], 80)));
    for (const socket of sockets) assert.ok(await echoes(socket, 'before'));
    await cluster.create(denyIngress('y/deny'));
    await cluster.settled(lab.nodes);
    await reaches(xa, yb, false);
    for (const socket of sockets) assert.ok(await echoes(socket, 'after'), 'the old connection goes on');
    assert.ok(await udp.asks(yb.v4, 80, 2000), 'the old UDP flow goes on');
    const before = agent.controller.deniedPackets()!;
    await tcp(xa, yb, false);
    assert.ok(agent.controller.deniedPackets()!.ingress > before.ingress, 'denied packets are counted');
    assert.equal(agent.controller.deniedPackets()!.egress, 0);
  });

  test('labels of pods and namespaces take effect at once', async () => {
    await cluster.create(
      policyObject('y/np', {
        podSelector: { matchLabels: { role: 'db' } },
        ingress: [
          {
            from: [
              { namespaceSelector: { matchLabels: { friend: 'yes' } }, podSelector: { matchLabels: { pod: 'a' } } },
            ],
          },
        ],
      }),
    );
    await cluster.settled(lab.nodes);
    await reaches(xa, yb, true);
    await cluster.client.patch('Pod', { namespace: 'y', name: 'b' }, { metadata: { labels: { role: 'db' } } });
    await cluster.settled(lab.nodes);
    lab.forgetFlows();
    await reaches(xa, yb, false);
    await cluster.client.patch('Namespace', { name: 'x' }, { metadata: { labels: { friend: 'yes' } } });
    await cluster.settled(lab.nodes);
    await reaches(xa, yb, true);
    await reaches(xb, yb, false);
    await cluster.client.patch('Pod', { namespace: 'x', name: 'a' }, { metadata: { labels: { pod: 'other' } } });
    await cluster.settled(lab.nodes);
    lab.forgetFlows();
    await reaches(xa, yb, false);
    await cluster.client.delete('NetworkPolicy', { namespace: 'y', name: 'np' });
    await cluster.settled(lab.nodes);
    await reaches(xa, yb, true);
  });

  test('Services are judged after translation, and their masquerade mark survives', async () => {
    const mark = `0x${MASQUERADE_MARK.toString(16)}`;
    // What the Service rules do: 10.96.0.1:8000 is y/b:80, 10.96.0.2:8000 is y/b:81, both masqueraded.
    lab.n1.eyes.run(`table ip services {
      chain pre { type nat hook prerouting priority dstnat;
        ip daddr 10.96.0.1 meta l4proto { tcp, udp } th dport 8000 meta mark set ${mark} dnat to ${yb.v4}:80
        ip daddr 10.96.0.2 meta l4proto { tcp, udp } th dport 8000 meta mark set ${mark} dnat to ${yb.v4}:81
      }
      chain post { type nat hook postrouting priority srcnat; meta mark & ${mark} == ${mark} masquerade; }
    }`);
    const service = (n: number): Endpoint => ({ ...yb, name: `service ${n}`, v4: `10.96.0.${n}` });
    const asks = (from: Endpoint, n: number, expected: boolean) =>
      lab.connects(from, service(n), 'UDP', 8000, 'v4', expected);
    await cluster.create(
      policyObject('y/np', {
        podSelector: { matchLabels: { pod: 'b' } },
        ingress: [{ from: [fromPod('a')], ports: [{ protocol: 'UDP', port: 80 }, { port: 80 }] }],
      }),
    );
    await cluster.create(
      policyObject('x/np', {
        podSelector: { matchLabels: { pod: 'a' } },
        policyTypes: ['Egress'],
        egress: [{ to: [fromPod('b')] }],
      }),
    );
    await cluster.settled(lab.nodes);
    assert.ok(await asks(xa, 1, true), 'both sides allow the pod behind the Service');
    assert.match(
      lab.lastSource.get('y/b')!,
      /^169\.254|^172\.18/,
      'masqueraded: the mark came through both judgements',
    );
    assert.ok(await tcp(xa, { ...service(1) }, true, 8000), 'TCP too');
    assert.equal(await asks(xb, 1, false), false, 'the sender itself counts, not the node');
    assert.equal(await asks(xa, 2, false), false, 'the port behind the Service counts');
    assert.ok(await asks(yb, 1, true), 'a pod reaches itself through its Service');
    assert.ok(await tcp(yb, service(1), true, 8000), 'by TCP too');
    lab.n1.eyes.run('delete table ip services');
  });

  test('traffic between a pod and its own node always passes, in both directions, whatever policies say', async () => {
    for (const ns of ['x', 'y']) {
      await cluster.create(policyObject(`${ns}/np`, { podSelector: {}, policyTypes: ['Ingress', 'Egress'] }));
    }
    await cluster.replaceClusterPolicies([
      clusterPolicyObject('nothing', {
        ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }],
        egress: [{ action: 'Deny', to: [{ networks: ['0.0.0.0/0', '::/0'] }] }],
      }),
    ]);
    await cluster.settled(lab.nodes);
    // Probes of the kubelet come this way.
    await reaches(node1, xa, true);
    await reaches(xa, node1, true);
    await reaches(node2, xa, false);
    await reaches(xa, node2, false);
    await reaches(xa, ya, false);
  });

  test('pods of a node’s own network are neither isolated nor known to selectors; their node’s address is', async () => {
    const host = (name: string, on: Endpoint) =>
      podObject(`x/${name}`, { hostNetwork: true, node: on.name, ips: [on.v4, on.v6], labels: { pod: 'host' } });
    await cluster.create(host('host-1', node1));
    await cluster.create(host('host-2', node2));
    await cluster.create(denyIngress('x/deny'));
    await cluster.create(
      policyObject('y/np', { podSelector: { matchLabels: { pod: 'a' } }, ingress: [{ from: [fromPod('host')] }] }),
    );
    await cluster.create(
      policyObject('y/block', {
        podSelector: { matchLabels: { pod: 'b' } },
        ingress: [{ from: [{ ipBlock: { cidr: `${node2.v4}/32` } }, { ipBlock: { cidr: `${node2.v6}/128` } }] }],
      }),
    );
    await cluster.settled(lab.nodes);
    await reaches(ya, node2, true);
    await reaches(node2, ya, false);
    await reaches(node2, yb, true);
    await reaches(node1, ya, true);
  });

  test('denied packets are dropped, never rejected: the sender hears nothing', async () => {
    await cluster.create(denyIngress('y/deny'));
    await cluster.replaceClusterPolicies([
      clusterPolicyObject('guard', {
        subject: { namespaces: { matchLabels: { ns: 'z' } } },
        ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }],
      }),
    ]);
    await cluster.settled(lab.nodes);
    for (const to of [yb, pod('z/b'), pod('y/c')]) {
      for (const family of families) {
        const attempt = connectTcp({ ns: lab.namespaceOf(xa), address: to[family], port: 80, timeoutMs: 300 });
        await assert.rejects(attempt, { code: 'ETIMEDOUT' }, `${to.name} ${family}`);
        const [from, target] = [lab.namespaceOf(xa), lab.namespaceOf(to)];
        assert.equal(await probeUdp({ from, to: target, address: to[family], port: 99, timeoutMs: 200 }), 'timeout');
      }
    }
  });

  test('a changed policy is in force for the next connection', async () => {
    const spec = (name: string) => ({
      podSelector: { matchLabels: { pod: 'b' } },
      ingress: [{ from: [fromPod(name)], ports: [{ port: 80 }, { protocol: 'UDP', port: 80 }] }],
    });
    const at = { namespace: 'y', name: 'np' };
    await cluster.create(policyObject('y/np', spec('a')));
    await cluster.settled(lab.nodes);
    await reaches(xa, yb, true);
    await reaches(xb, yb, false);
    await cluster.client.patch('NetworkPolicy', at, { spec: spec('b') });
    await cluster.settled(lab.nodes);
    lab.forgetFlows();
    await reaches(xa, yb, false);
    await reaches(xb, yb, true);
  });

  test('while the agent is down the last state stays in force', async () => {
    await cluster.create(policyObject('y/np', { podSelector: {}, ingress: [{ from: [fromPod('a')] }] }));
    await cluster.settled(lab.nodes);
    for (const node of lab.nodes) await cluster.stopAgent(node);
    await cluster.client.delete('NetworkPolicy', { namespace: 'y', name: 'np' });
    lab.forgetFlows();
    await reaches(xa, yb, true);
    await reaches(xb, yb, false);
  });

  test('a new pod is isolated before its hook returns, and is itself from its first packet', async () => {
    await cluster.client.delete('Pod', { namespace: 'x', name: 'b' }, { gracePeriodSeconds: 0 });
    await cluster.create(denyIngress('x/deny'));
    await cluster.create(
      policyObject('y/np', {
        podSelector: {},
        ingress: [{ from: [{ podSelector: { matchLabels: { fresh: 'yes' } }, namespaceSelector: {} }] }],
      }),
    );
    await cluster.settled(lab.nodes);
    // The pod is bound, its address is not in the API yet.
    const fresh = await cluster.create(podObject('x/fresh', { labels: { fresh: 'yes' }, uid: 'u-fresh' }));
    await agent.controller.attached(attachedPod(xb, fresh.metadata.uid, 'fresh'));
    await reaches(xa, xb, false);
    await reaches(xb, ya, true);
    // The other node does not know the address: only what is open to all is open to it.
    const yc = pod('y/c');
    await reaches(xb, yc, false);
    await cluster.client.patch(
      'Pod',
      { namespace: 'x', name: 'fresh' },
      { status: { podIP: xb.v4, podIPs: [{ ip: xb.v4 }, { ip: xb.v6 }] } },
      { subresource: 'status' },
    );
    await cluster.settled([lab.n2]);
    await reaches(xb, yc, true);
  });

  test('a pod that the API does not know is isolated completely until it does', async () => {
    await cluster.client.delete('Pod', { namespace: 'x', name: 'b' }, { gracePeriodSeconds: 0 });
    await cluster.settled(lab.nodes);
    await reaches(xb, xa, true);
    lab.forgetFlows();
    await agent.controller.attached(attachedPod(xb, 'u-late', 'late'));
    await reaches(xa, xb, false);
    await reaches(xb, xa, false);
    await cluster.create(podObject('x/late', { uid: 'u-late' }));
    await cluster.settled([lab.n1], [attachedPod(xb, 'u-late', 'late')]);
    await cluster.settled([lab.n2]);
    await reaches(xa, xb, true);
    await reaches(xb, xa, true);
  });

  test('an address of a gone pod means nothing, though the API still lists it, and its successor inherits nothing', async () => {
    await cluster.create(policyObject('y/np', { podSelector: {}, ingress: [{ from: [fromPod('b')] }] }));
    await cluster.settled(lab.nodes);
    await reaches(xb, ya, true);
    lab.forgetFlows();
    const { uid } = (await cluster.client.get('Pod', { namespace: 'x', name: 'b' })).metadata;
    await agent.controller.detached(attachedPod(xb, uid));
    await reaches(xb, ya, false);
    const next = await cluster.create(podObject('x/next', { labels: { pod: 'next' }, uid: 'u-next' }));
    await agent.controller.attached(attachedPod(xb, next.metadata.uid, 'next'));
    await reaches(xb, ya, false);
    // On the other node both pods claim the address in the API: it is nobody's.
    await cluster.client.patch(
      'Pod',
      { namespace: 'x', name: 'next' },
      { status: { podIP: xb.v4, podIPs: [{ ip: xb.v4 }, { ip: xb.v6 }] } },
      { subresource: 'status' },
    );
    await cluster.settled([lab.n2]);
    await reaches(xb, pod('y/c'), false);
  });

  test('pods that have ended are not known by their address any more', async () => {
    await cluster.create(policyObject('y/np', { podSelector: {}, ingress: [{ from: [fromPod('b')] }] }));
    await cluster.client.patch(
      'Pod',
      { namespace: 'x', name: 'b' },
      { status: { phase: 'Succeeded' } },
      { subresource: 'status' },
    );
    await cluster.settled(lab.nodes);
    await reaches(xb, ya, false);
  });

  test('two hundred pods at once wait for few transactions', async () => {
    await cluster.create(denyIngress('x/deny'));
    const many = Array.from({ length: 200 }, (_, i) => ({
      ...xb,
      v4: `10.244.99.${i + 1}`,
      v6: `fd00:10:244:99::${i + 1}`,
    }));
    for (const [i] of many.entries())
      await cluster.create(podObject(`x/many-${i}`, { uid: `u-${i}`, labels: { n: String(i) } }));
    await Promise.all(many.map((each, i) => agent.controller.attached(attachedPod(each, `u-${i}`, `many-${i}`))));
    const map = lab.n1.eyes.list(`map ${table} ingress4`);
    for (const { v4 } of many) assert.ok(map.includes(`${v4} : `), v4);
  });

  test('a pod is refused while the rules are not known', async () => {
    await cluster.stopAgent(lab.n1);
    cluster.client.onRequest = (_verb, kind) => {
      if (kind === 'NetworkPolicy') throw new Error('no answer');
    };
    const { Agent: Life } = await import('./policy-cluster.ts');
    const late = new Life(cluster.client, lab.n1, { syncTimeoutMs: 100 });
    const starting = late.start();
    await assert.rejects(late.controller.attached(attachedPod(xb, 'u-any')), /must not start without its rules/);
    cluster.client.onRequest = undefined;
    await starting;
    await late.stop();
  });

  test('fifty restarts of the agent: what is allowed is never lost, what is denied never passes', async () => {
    await cluster.create(
      policyObject('y/np', {
        podSelector: {},
        ingress: [{ from: [fromPod('a')], ports: [{ protocol: 'UDP', port: 80 }] }],
      }),
    );
    await cluster.create(policyObject('x/np', { podSelector: { matchLabels: { pod: 'b' } }, policyTypes: ['Egress'] }));
    await cluster.settled(lab.nodes);
    const counts = { allowed: 0, lost: 0, denied: 0, leaked: 0 };
    let stop = false;
    // Every datagram has a source port of its own: each is a new flow to be judged.
    const ping = async (from: Endpoint, to: Endpoint, expected: boolean) => {
      while (!stop) {
        for (const family of families) {
          const passed = await lab.connects(from, to, 'UDP', 80, family, expected);
          if (expected) counts[passed ? 'allowed' : 'lost']++;
          else counts[passed ? 'leaked' : 'denied']++;
        }
        lab.forgetFlows();
      }
    };
    const pings = [
      ping(xa, ya, true),
      ping(xa, yb, true),
      ...Array.from({ length: 8 }, () => ping(xb, ya, false)),
      ...Array.from({ length: 8 }, () => ping(xc, yb, false)),
    ];
    for (let life = 0; life < 50; life++) {
      await cluster.stopAgent(lab.n1);
      // The world goes on while nobody looks.
      await cluster.client.patch(
        'Pod',
        { namespace: 'z', name: 'a' },
        { metadata: { labels: { life: String(life) } } },
      );
      await cluster.client.patch(
        'Pod',
        { namespace: 'x', name: 'a' },
        { metadata: { labels: { life: String(life) } } },
      );
      await sleep(10);
      await cluster.startAgent(lab.n1);
      await sleep(10);
    }
    await cluster.settled(lab.nodes);
    stop = true;
    await Promise.all(pings);
    assert.ok(counts.allowed > 50 && counts.denied > 50, `too few pings: ${JSON.stringify(counts)}`);
    assert.deepEqual({ lost: counts.lost, leaked: counts.leaked }, { lost: 0, leaked: 0 });
  });

  test('a table that somebody removed comes back', async () => {
    await cluster.create(denyIngress('y/deny'));
    await cluster.settled(lab.nodes);
    lab.n1.eyes.run(`delete table ${table}`);
    await cluster.create(denyIngress('x/deny'));
    await eventually(() => cluster.settled(lab.nodes));
    await reaches(xa, ya, false);
  });
});
