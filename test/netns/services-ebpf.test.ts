/** What only the mode ebpf does: sockets that are translated, and what they, their processes and the agent then meet. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLogger } from '../../src/base/log.ts';
import { AttachType, attachedPrograms, programExists } from '../../src/linux/bpf/attach.ts';
import { bindUdp, closeFd } from '../../src/linux/sockets.ts';
import type { ProgramFiles } from '../../src/node/services/ebpf/programs.ts';
import { SocketRules } from '../../src/node/services/ebpf/reconciler.ts';
import { makeService, makeSlice } from '../../src/node/services/fixtures.ts';
import { buildService } from '../../src/node/services/model.ts';
import { nftablesRules } from '../../src/node/services/nftables/reconciler.ts';
import { StaleFlows } from '../../src/node/services/stale-flows.ts';
import { servedBy } from './services-ebpf-agent.ts';
import { ADDRESSES, type FlowClient, NODE_ADDRESSES, type Outcome, PLACES, ServicesLab } from './services-lab.ts';
import { ProberProcess } from './services-prober.ts';
import { enterSocketLab } from './services-socket-lab.ts';

const VIP = '10.96.0.1';
const at = (place: keyof typeof PLACES): string => `${PLACES[place][0]} 8080`;

let lab: ServicesLab;
let files: ProgramFiles;
let rules: SocketRules;
let flows: StaleFlows;

const openRules = () =>
  new SocketRules({ ...files, packets: nftablesRules(lab.nft) }, { addresses: ADDRESSES, flows, log: silentLogger });

const serve = async (places: readonly (keyof typeof PLACES)[], extra: object = {}) => {
  await rules.apply([['default/svc', servedBy(places, extra)]]);
  await rules.apply([]);
};

const answered = (outcome: Outcome): string => {
  assert.equal(outcome.kind, 'answer', `got ${outcome.kind}`);
  return (outcome as Extract<Outcome, { kind: 'answer' }>).endpoint;
};

/** Sockets are moved with the change, or a little later when others were moved just before. */
async function until(client: FlowClient, wanted: string): Promise<void> {
  let met = await client.ask();
  const text = () => (met.kind === 'answer' ? met.endpoint : met.kind);
  for (let i = 0; i < 60 && text() !== wanted; i++) {
    await sleep(50);
    met = await client.ask();
  }
  assert.equal(text(), wanted);
}

const tcp = (from: 'a' | 'b' | 'node' = 'a') => lab.probe({ from, destination: VIP, port: 80, protocol: 'tcp' });
const udp = (from: 'a' | 'node' = 'a') => lab.probe({ from, destination: VIP, port: 80, protocol: 'udp' });

/** Flows that the packet rules have translated. */
const translatedPackets = () =>
  ([4, 6] as const)
    .flatMap((family) => lab.conntrack.list({ family }))
    .filter(({ orig, reply }) => orig.destination !== reply.source);

/** A UDP socket of a pod that is not connected; asks the Service, and says who answered from where. */
async function unconnected(place: 'a' | 'b', any: '0.0.0.0' | '::') {
  const ns = lab.space(place);
  const socket = dgram.createSocket(isIPv6(any) ? 'udp6' : 'udp4');
  const fd = bindUdp({ ns, address: any, port: 0, v6only: false });
  await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
  const ask = async (address: string, port = 80) => {
    const answer = once(socket, 'message', { signal: AbortSignal.timeout(3000) });
    socket.send('who', port, address);
    const [text, from] = (await answer) as [Buffer, dgram.RemoteInfo];
    return { endpoint: text.toString().split('|')[0], from: `${from.address} ${from.port}` };
  };
  return { ask, [Symbol.dispose]: () => void socket.close() };
}

before(async () => {
  lab = await ServicesLab.start();
  files = await enterSocketLab(lab);
  flows = new StaleFlows({ conntrack: lab.conntrack, serviceCidrs: ADDRESSES.serviceCidrs, log: silentLogger });
  lab.onClose(() => flows.stop());
  rules = openRules();
  lab.onClose(() => rules.close());
});
after(async () => {
  await lab?.[Symbol.asyncDispose]();
});

describe('sockets of pods and the node', () => {
  it('meet no rule for packets', async () => {
    await serve(['b', 'c', 'far-a']);
    lab.conntrack.flush();
    for (let i = 0; i < 10; i++) for (const from of ['a', 'node'] as const) answered(await tcp(from));
    for (let i = 0; i < 10; i++) for (const from of ['a', 'node'] as const) answered(await udp(from));
    using socket = await unconnected('a', '::');
    await socket.ask(`::ffff:${VIP}`);
    assert.deepEqual(translatedPackets(), []);
    answered(await lab.probe({ from: 'outside', destination: VIP, port: 80, protocol: 'tcp' }));
    assert.equal(translatedPackets().length, 1, 'but a client outside does');
  });

  it('believe to be connected to the Service', async () => {
    await serve(['b', 'far-a']);
    const socket = await lab.connect({ from: 'a', destination: VIP, port: 80, protocol: 'tcp' });
    assert.deepEqual([socket.remoteAddress, socket.remotePort], [VIP, 80]);
    socket.destroy();
    const direct = await lab.connect({ from: 'a', destination: PLACES.b[0], port: 8080, protocol: 'tcp' });
    assert.deepEqual([direct.remoteAddress, direct.remotePort], [PLACES.b[0], 8080]);
    direct.destroy();
  });

  it('see answers come from where they have asked, by IPv4 and by IPv4 in IPv6', async () => {
    await serve(['b', 'far-a']);
    using four = await unconnected('a', '0.0.0.0');
    assert.equal((await four.ask(VIP)).from, `${VIP} 80`);
    assert.equal((await four.ask(PLACES.c[0], 8080)).from, at('c'), 'but not those of others');
    using six = await unconnected('a', '::');
    assert.equal((await six.ask(`::ffff:${VIP}`)).from, `::ffff:${VIP} 80`);
  });

  it('keep their endpoint while it is one, datagram by datagram', async () => {
    await serve(['b', 'c', 'far-a', 'far-b']);
    using socket = await unconnected('a', '0.0.0.0');
    const first = (await socket.ask(VIP)).endpoint;
    for (let i = 0; i < 10; i++) assert.equal((await socket.ask(VIP)).endpoint, first);
    const left = (['b', 'c', 'far-a', 'far-b'] as const).filter((place) => at(place) !== first);
    await serve(left);
    const second = (await socket.ask(VIP)).endpoint;
    assert.ok(left.map(at).includes(second!));
    await serve(['b', 'c', 'far-a', 'far-b']);
    for (let i = 0; i < 10; i++) assert.equal((await socket.ask(VIP)).endpoint, second);
  });

  it('talk to more Services than are remembered for a socket, and to some with the same endpoint', async () => {
    const services = Array.from({ length: 12 }, (_, i) => {
      const clusterIP = `10.96.1.${i + 1}`;
      const service = makeService(`many-${i}`, {
        clusterIP,
        clusterIPs: [clusterIP],
        ports: [{ port: 53, protocol: 'UDP' }],
      });
      const slice = makeSlice(
        `many-${i}`,
        [PLACES[i % 2 ? 'b' : 'c'][0]],
        [{ port: i % 4 < 2 ? 8080 : 8081, protocol: 'UDP' }],
      );
      return buildService(service, [slice], { name: 'n1', nodePortAddresses: NODE_ADDRESSES });
    });
    await rules.apply(services.map((model) => [model.key, model] as const));
    using socket = await unconnected('a', '0.0.0.0');
    for (let round = 0; round < 2; round++)
      for (let i = 0; i < services.length; i++)
        assert.equal((await socket.ask(`10.96.1.${i + 1}`, 53)).from, `10.96.1.${i + 1} 53`);
    await rules.apply(services.map((model) => [model.key, undefined] as const));
  });
});

describe('session affinity of pods', () => {
  const sticky = (timeoutSeconds: number) => ({
    sessionAffinity: 'ClientIP',
    sessionAffinityConfig: { clientIP: { timeoutSeconds } },
  });
  const all = ['b', 'c', 'far-a', 'far-b'] as const;

  it('holds for all sockets of a pod, whatever their source, and through a new agent', async () => {
    await serve(all, sticky(300));
    const home = answered(await tcp());
    for (let i = 0; i < 8; i++) assert.equal(answered(await tcp()), home);
    rules.close();
    rules = openRules();
    await serve([...all].reverse(), sticky(300));
    for (let i = 0; i < 8; i++) assert.equal(answered(await tcp()), home);
    const left = all.filter((place) => at(place) !== home);
    await serve(left, sticky(300));
    const next = answered(await tcp());
    assert.ok(left.map(at).includes(next));
    await serve(all, sticky(300));
    for (let i = 0; i < 8; i++) assert.equal(answered(await tcp()), next);
  });

  it('is forgotten in time', async () => {
    await serve(all, sticky(1));
    const met = new Set<string>();
    for (let i = 0; i < 12 && met.size < 2; i++) {
      met.add(answered(await tcp('b')));
      await sleep(1100);
    }
    assert.ok(met.size > 1, 'a client was never forgotten');
  });
});

describe('connected UDP sockets of other processes', () => {
  let pod: ProberProcess;
  before(async () => {
    pod = await ProberProcess.start(lab.space('a'));
  });
  after(async () => {
    await pod?.stop();
  });

  it('move to another endpoint, are refused where there is none, and come back', async () => {
    await serve(['b']);
    using client = await pod.udpClient({ from: 'a', destination: VIP, port: 80, protocol: 'udp' });
    assert.equal(answered(await client.ask()), at('b'));
    await serve(['c']);
    await until(client, at('c'));
    await serve([]);
    await until(client, 'refused');
    await serve(['far-a']);
    await until(client, at('far-a'));
    await rules.apply([['default/svc', undefined]]);
    await until(client, 'refused');
  });

  it('move also when the endpoint went while no agent was there', async () => {
    await serve(['b']);
    using client = await pod.udpClient({ from: 'a', destination: VIP, port: 80, protocol: 'udp' });
    assert.equal(answered(await client.ask()), at('b'));
    rules.close();
    assert.equal(answered(await client.ask()), at('b'));
    rules = openRules();
    await serve(['c']);
    await until(client, at('c'));
  });
});

describe('the agent', () => {
  const connector = async (connects: number) => {
    const script = join(import.meta.dirname, 'services-connector.ts');
    const argv = [script, VIP, '80', String(connects)];
    const child = lab.space('a').run(() => spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] }));
    let text = '';
    child.stdout.on('data', (bytes) => {
      text += bytes;
    });
    await once(child, 'close');
    return JSON.parse(text) as unknown;
  };
  const startAgent = async (): Promise<ChildProcess> => {
    const node = `/proc/${process.pid}/fd/${lab.space('node').fd}`;
    const argv = [join(import.meta.dirname, 'services-ebpf-agent.ts'), node, files.object, files.cgroup];
    const agent = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(agent.stdout, 'data', { signal: AbortSignal.timeout(30_000) });
    return agent;
  };
  const kill = async (agent: ChildProcess) => {
    const ended = once(agent, 'exit');
    agent.kill('SIGKILL');
    await ended;
  };

  it('is killed and started again under load: nobody is refused, no connect meets the packet rules, connections stay', async () => {
    rules.close();
    let agent = await startAgent();
    const socket = await lab.connect({ from: 'a', destination: VIP, port: 80, protocol: 'tcp' });
    await once(socket, 'data');
    using flow = await unconnected('a', '0.0.0.0');
    await flow.ask(VIP);
    lab.conntrack.flush();
    let running = true;
    const connects = 2500;
    const load = connector(connects).finally(() => {
      running = false;
    });
    let kills = 0;
    for (; running || kills < 3; kills++) {
      await sleep(150);
      await kill(agent);
      if (kills === 0) await sleep(300);
      agent = await startAgent();
      assert.equal((await flow.ask(VIP)).from, `${VIP} 80`);
    }
    await kill(agent);
    assert.deepEqual(await load, { connected: connects, refused: 0, other: 0 });
    assert.deepEqual(translatedPackets(), []);
    socket.write('still here');
    assert.equal(String((await once(socket, 'data', { signal: AbortSignal.timeout(3000) }))[0]), 'still here');
    socket.destroy();
    rules = openRules();
    await serve(['b']);
    assert.ok(rules.isIntact());
  });

  it('makes room for any number of Services while they are used', async () => {
    await serve(['b']);
    const model = (n: number) =>
      buildService(
        makeService(`more-${n}`, { clusterIPs: [`10.96.${2 + (n >> 8)}.${n & 255}`], ports: [{ port: 80 }] }),
        [makeSlice(`more-${n}`, [`10.244.0.${2 + (n % 3)}`, `10.245.${n >> 8}.${n & 255}`], [{ port: 8080 }])],
        { name: 'n1', nodePortAddresses: NODE_ADDRESSES },
      );
    const { rebuilds, failures } = rules.stats;
    for (let n = 0; n < 1500; n += 50) {
      await rules.apply(Array.from({ length: 50 }, (_, i) => [`default/more-${n + i}`, model(n + i)] as const));
      answered(await tcp());
    }
    assert.ok(rules.stats.rebuilds - rebuilds >= 1 && rules.stats.rebuilds - rebuilds <= 4, `${rules.stats.rebuilds}`);
    assert.equal(rules.stats.failures, failures);
    assert.deepEqual(rules.listings.found, rules.listings.expected);
    await rules.apply(Array.from({ length: 1500 }, (_, n) => [`default/more-${n}`, undefined] as const));
    assert.deepEqual(rules.listings.found, rules.listings.expected);
  });

  it('notices that its programs were taken away, puts them back, and takes all away itself', async () => {
    await serve(['b']);
    const cgroup = openSync(files.cgroup, 'r');
    const ids = Object.values(AttachType).flatMap((type) => attachedPrograms(cgroup, type));
    assert.equal(ids.length, Object.keys(AttachType).length);
    const other = openRules();
    await other.apply([]);
    assert.equal(rules.isIntact(), false);
    rules.invalidate();
    await rules.apply([]);
    assert.ok(rules.isIntact());
    assert.equal(answered(await tcp()), at('b'));
    other.close();
    rules.remove();
    assert.deepEqual(
      Object.values(AttachType).flatMap((type) => attachedPrograms(cgroup, type)),
      [],
    );
    closeFd(cgroup);
    for (let i = 0; i < 200 && ids.some(programExists); i++) await sleep(10);
    assert.ok(!ids.some(programExists), 'a program is left');
    assert.notEqual((await tcp()).kind, 'answer');
    rules = openRules();
  });
});
