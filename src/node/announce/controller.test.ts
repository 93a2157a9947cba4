/** Several nodes on a wire that is an array, with time that stands still: who answers, and who does not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../../base/clock.ts';
import { parseIp } from '../../base/ip.ts';
import { silentLogger } from '../../base/log.ts';
import { FakeClient } from '../../kube/fake-client.ts';
import { Informer } from '../../kube/informer.ts';
import { ABSENT_MS, AnnounceController, BEAT_MS, DEAD_MS, SILENT_MS } from './controller.ts';
import type { ArpPacket } from './wire/arp.ts';
import type { Beat } from './wire/beat.ts';
import type { Link, LinkEvents, OpenLinkOptions } from './wire/link.ts';

const ADDRESS = parseIp('172.18.200.1');
const request: ArpPacket = {
  operation: 'request',
  senderMac: '0e:00:00:00:00:99',
  sender: parseIp('172.18.0.99'),
  targetMac: '00:00:00:00:00:00',
  target: ADDRESS,
};

const NODES = { 'node-1': '172.18.0.1', 'node-2': '172.18.0.2', 'node-3': '172.18.0.3' };
const macOf = (address: string) => `0a:00:00:00:00:0${address.split('.').at(-1)}`;

/** What a link does, without the kernel: everything that one sends the others get. The nodes' kernels answer questions. */
class Wire {
  readonly ends = new Map<string, { events: LinkEvents; cut: boolean }>();
  /** Addresses of nodes whose kernels do not answer. */
  readonly dead = new Set<string>();
  /** Addresses of nodes whose agents stand still: nothing that they send leaves. */
  readonly mute = new Set<string>();
  readonly beats: Beat[] = [];
  /** Where an answer said that the address is. */
  readonly answers: string[] = [];
  readonly announcements: string[] = [];

  readonly open = ({ address, events }: OpenLinkOptions): Link => {
    const end = { events, cut: false };
    this.ends.set(address, end);
    const mac = macOf(address);
    const toOthers = (action: (events: LinkEvents) => void) => {
      if (!end.cut && !this.mute.has(address))
        for (const other of this.ends.values()) if (other !== end && !other.cut) action(other.events);
    };
    return {
      mac,
      sendBeat: (beat) => {
        this.beats.push(beat);
        toOthers((other) => other.onBeat({ ...beat, mac }));
      },
      announce: (sender) => {
        this.announcements.push(`${sender} ${address}`);
        toOthers((other) => other.onArp({ ...request, senderMac: mac, sender, target: sender }));
      },
      answerArp: (_, at) => void this.answers.push(Object.values(NODES).find((one) => macOf(one) === at)!),
      answerNeighbour: () => assert.fail('nobody asked for an IPv6 address'),
      ask: (target, at) => {
        const isThere = !this.dead.has(target) && !end.cut && !this.ends.get(target)?.cut;
        if (isThere)
          events.onArp({ ...request, operation: 'reply', sender: target, senderMac: at, target: parseIp(address) });
      },
      listenFor() {},
      close: () => this.ends.delete(address),
    };
  };

  /** Who answers a request for the address now. */
  ask(): readonly string[] {
    this.answers.length = 0;
    for (const { events, cut } of this.ends.values()) if (!cut) events.onArp(request);
    return [...this.answers];
  }
}

async function lab() {
  const client = new FakeClient();
  const clock = new FakeClock();
  const wire = new Wire();
  await client.create('Namespace', { metadata: { name: 'kube-system' }, spec: {} });
  const ends = new Map<string, AbortController>();
  const controllers = new Map<string, AnnounceController>();
  for (const [nodeName, address] of Object.entries(NODES)) {
    await client.create('Node', {
      metadata: { name: nodeName },
      spec: {},
      status: { conditions: [{ type: 'Ready', status: 'True' }], addresses: [{ type: 'InternalIP', address }] },
    });
    const options = { client, log: silentLogger };
    const controller = new AnnounceController({
      nodeName,
      nodeAddresses: [address],
      informers: {
        services: new Informer('Service', options),
        endpointSlices: new Informer('EndpointSlice', options),
        nodes: new Informer('Node', options),
        namespaces: new Informer('Namespace', options),
      },
      log: silentLogger,
      clock,
      openLink: wire.open,
    });
    controllers.set(address, controller);
    ends.set(address, new AbortController());
  }
  await Promise.all([...controllers].map(([address, one]) => one.start(ends.get(address)!.signal)));
  return {
    client,
    clock,
    wire,
    ends,
    controllers,
    /** Beats, and the tasks between. */
    async settle(ms = 2 * BEAT_MS) {
      for (let passed = 0; passed < ms; passed += BEAT_MS) {
        await clock.advance(BEAT_MS);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    },
    end() {
      for (const one of ends.values()) one.abort();
    },
  };
}

/** Runs the body, and ends the nodes however it ends. */
async function inLab(body: (at: Awaited<ReturnType<typeof lab>>) => Promise<void>): Promise<void> {
  const at = await lab();
  try {
    await body(at);
  } finally {
    at.end();
  }
}

async function withService(lab: { client: FakeClient }, policy: 'Cluster' | 'Local' = 'Cluster') {
  await lab.client.create('Service', {
    metadata: { name: 'web', namespace: 'default' },
    spec: { type: 'LoadBalancer', externalTrafficPolicy: policy, ports: [{ port: 80 }] },
    status: { loadBalancer: { ingress: [{ ip: ADDRESS }] } },
  });
}

test('nothing is open without addresses; with one, exactly one node answers, at once', () =>
  inLab(async (at) => {
    await at.settle();
    assert.equal(at.wire.ends.size, 0);
    await withService(at);
    await at.settle(BEAT_MS);
    const first = at.wire.ask();
    assert.equal(first.length, 1);
    assert.ok(at.wire.announcements.includes(`${ADDRESS} ${first[0]}`));
    await at.client.delete('Service', { namespace: 'default', name: 'web' });
    await at.settle(BEAT_MS);
    assert.equal(at.wire.ends.size, 0);
  }));

test('a node that is cut off is replaced after its silence, and comes back without two answering for long', () =>
  inLab(async (at) => {
    await withService(at);
    await at.settle();
    const [first] = at.wire.ask();
    at.wire.ends.get(first!)!.cut = true;
    await at.settle(DEAD_MS + BEAT_MS);
    const second = at.wire.ask();
    assert.equal(second.length, 1);
    assert.notEqual(second[0], first);
    const before = at.wire.announcements.length;
    at.wire.ends.get(first!)!.cut = false;
    await at.settle(BEAT_MS);
    assert.deepEqual(at.wire.ask(), [first]);
    await at.settle(2000);
    assert.deepEqual(at.wire.announcements.slice(before).at(-1), `${ADDRESS} ${first}`, 'the last word is the owner’s');
  }));

test('an agent that ends says so: another one answers at once, that the address is where it was', () =>
  inLab(async (at) => {
    await withService(at);
    await at.settle();
    const [first] = at.wire.ask();
    const announced = at.wire.announcements.length;
    at.ends.get(first!)!.abort();
    await at.settle(BEAT_MS);
    assert.deepEqual(at.wire.ask(), [first]);
    await at.settle(ABSENT_MS - 2 * BEAT_MS);
    assert.deepEqual(at.wire.ask(), [first]);
    assert.equal(
      at.wire.announcements.slice(announced).filter((one) => !one.endsWith(first!)).length,
      0,
      'nobody took it',
    );
    await at.settle(2 * BEAT_MS);
    const second = at.wire.ask();
    assert.equal(second.length, 1, 'it has been away for too long');
    assert.notEqual(second[0], first);
  }));

test('an agent that ends with its node is replaced when the node’s kernel does not answer', () =>
  inLab(async (at) => {
    await withService(at);
    await at.settle();
    const [first] = at.wire.ask();
    at.wire.dead.add(first!);
    at.ends.get(first!)!.abort();
    await at.settle(DEAD_MS + BEAT_MS);
    const second = at.wire.ask();
    assert.equal(second.length, 1);
    assert.notEqual(second[0], first);
  }));

test('an agent that stands still while its kernel answers keeps its addresses; others speak for it', () =>
  inLab(async (at) => {
    await withService(at);
    await at.settle();
    const [first] = at.wire.ask();
    const { events } = at.wire.ends.get(first!)!;
    // It hears nothing and says nothing, but its kernel is there.
    const silent = { ...events, onArp() {}, onBeat() {} };
    const stopped = at.controllers.get(first!)!;
    at.wire.ends.set(first!, { events: silent, cut: false });
    at.wire.mute.add(first!);
    await at.settle(SILENT_MS + BEAT_MS);
    assert.deepEqual(at.wire.ask(), [first]);
    await at.settle(5 * DEAD_MS);
    assert.deepEqual(at.wire.ask(), [first]);
    assert.deepEqual(stopped.owned, [ADDRESS]);
    at.wire.mute.delete(first!);
    at.wire.ends.set(first!, { events, cut: false });
    await at.settle();
    assert.deepEqual(at.wire.ask(), [first]);
    const stoodIn = [...at.controllers.values()].map(({ metrics }) => metrics.vouched);
    assert.deepEqual(stoodIn.toSorted(), [0, 0, 2]);
  }));

test('a process that slept answers nothing before it has beaten again', () =>
  inLab(async (at) => {
    await withService(at);
    await at.settle();
    assert.equal(at.wire.ask().length, 1);
    // Time passes and no timer fires, as after SIGSTOP.
    const now = at.clock.now;
    at.clock.now = () => now.call(at.clock) + 5000;
    assert.deepEqual(at.wire.ask(), []);
    at.clock.now = now;
  }));

test('after everything stood still, whoever is heard first makes nobody take an address over', () =>
  inLab(async (at) => {
    await withService(at);
    await at.settle();
    const [first] = at.wire.ask();
    const announced = at.wire.announcements.length;
    const now = at.clock.now;
    at.clock.now = () => now.call(at.clock) + 1500;
    // Before any timer: each hears the beat of a node that has no address, and not yet that of the one that has.
    const [idle, other] = Object.entries(NODES).filter(([, address]) => address !== first);
    const [{ cluster }] = at.wire.beats as [Beat];
    for (const [from, to] of [
      [idle!, other!],
      [other!, idle!],
    ] as const) {
      at.wire.ends.get(to[1])!.events.onBeat({ cluster, node: from[0], active: true, mac: macOf(from[1]) });
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
    await at.settle(BEAT_MS);
    assert.deepEqual(at.wire.announcements.slice(announced), [], 'nobody took it');
    assert.deepEqual(at.wire.ask(), [first]);
  }));

test('policy Local: the node with the endpoint answers, and moves with it; none without', () =>
  inLab(async (at) => {
    const slice = (nodeName: string) => ({
      metadata: { name: 'web-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } },
      addressType: 'IPv4',
      endpoints: [{ addresses: ['10.244.0.5'], nodeName, conditions: { ready: true } }],
      ports: [],
    });
    await withService(at, 'Local');
    await at.settle();
    assert.deepEqual(at.wire.ask(), []);
    for (const [nodeName, address] of Object.entries(NODES)) {
      const created = await at.client.create('EndpointSlice', slice(nodeName));
      await at.settle(BEAT_MS);
      assert.deepEqual(at.wire.ask(), [address]);
      await at.client.delete('EndpointSlice', created.metadata);
    }
    await at.settle(BEAT_MS);
    assert.deepEqual(at.wire.ask(), []);
  }));
