/**
 * A crowd of pods that start at once under a default deny, through the real shim, CNI server and IPAM, while another process
 * knocks at all their addresses from before they exist: from a pod of the same node, and from another node. Every datagram
 * or connection that arrives in a pod is counted; sockets are open there before the interface is.
 */
import { spawn } from 'node:child_process';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLogger } from '../../src/base/log.ts';
import { FakeClient } from '../../src/kube/fake-client.ts';
import { Informer } from '../../src/kube/informer.ts';
import type { Draft, KindMap } from '../../src/kube/types.ts';
import { Conntrack } from '../../src/linux/conntrack.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { bindUdp, listenTcp } from '../../src/linux/sockets.ts';
import { PolicyController } from '../../src/node/policy/controller.ts';
import { namespaceObject, podObject, policyObject } from '../../src/node/policy/testing.ts';
import { Lab, type LabPod } from './cni-lab.ts';
import type { ProberReport, ProberTask } from './policy-prober.ts';

const port = 9000;

export interface CrowdOptions {
  /** At most 250: a node's /24. */
  readonly pods: number;
  /** The proof that the knocking would be heard: without the hook pods are open from their first moment. */
  readonly hook?: 'policy' | 'none';
}

export interface CrowdResult {
  /** Packets that reached a pod under the default deny. */
  readonly early: number;
  /** Pods that were reached, by either protocol, once the policy was gone. */
  readonly reachedAfter: number;
  /** Milliseconds from the first ADD to the last answer. */
  readonly addMs: number;
  readonly prober: ProberReport;
}

export async function startCrowd({ pods: count, hook = 'policy' }: CrowdOptions): Promise<CrowdResult> {
  await using lab = await Lab.create({ nodes: 2, bare: true });
  const [home, away] = lab.nodes as [Lab['nodes'][0], Lab['nodes'][0]];
  const client = new FakeClient();
  const common = { client, log: silentLogger };
  using nft = Nftables.open(home.ns);
  const controller = new PolicyController({
    nodeName: home.name,
    nft,
    log: silentLogger,
    informers: {
      pods: new Informer('Pod', common),
      namespaces: new Informer('Namespace', common),
      policies: new Informer('NetworkPolicy', common),
    },
  });
  const names = Array.from({ length: count }, (_, i) => `crowd-${i}`);
  await client.create('Namespace', namespaceObject('default') as Draft<KindMap['Namespace']>);
  await client.create(
    'NetworkPolicy',
    policyObject('default/deny', {
      podSelector: { matchLabels: { crowd: 'yes' } },
      policyTypes: ['Ingress'],
    }) as Draft<KindMap['NetworkPolicy']>,
  );
  for (const name of [...names, 'knocker']) {
    const labels: Record<string, string> = name === 'knocker' ? {} : { crowd: 'yes', name };
    const pod = podObject(`default/${name}`, { node: home.name, uid: `uid-${name}`, labels });
    await client.create('Pod', pod as Draft<KindMap['Pod']>);
  }
  const abort = new AbortController();
  const ears = new Ears();
  try {
    if (hook === 'policy') await controller.start(abort.signal);
    await home.serve({ hooks: hook === 'policy' ? [controller] : [] });
    const knocker = await home.addPod('knocker');
    const [gateway4, gateway6] = home.addresses as [string, string];
    for (const [i, destination] of home.podCidrs.entries()) {
      away.rtnl.addRoute({ destination, via: [gateway4, gateway6][i]!, device: 'eth0' });
    }
    const pods = names.map((name) => home.newPod(name));
    for (const pod of pods) await ears.listen(pod);
    await using prober = await Prober.start({
      namespaces: [knocker.netnsPath, join(away.folder, 'netns')],
      addresses: addressesAfter(knocker.addresses, count),
      port,
    });
    const began = performance.now();
    const answers = await Promise.all(pods.map((pod) => pod.cni('ADD')));
    const addMs = performance.now() - began;
    const refused = answers.find(({ exitCode }) => exitCode !== 0);
    if (refused) throw new Error(`ADD: ${JSON.stringify(refused.json)}`);
    // A while longer: what was let in meanwhile must have time to be heard.
    await sleep(500);
    const early = ears.heard;
    await client.delete('NetworkPolicy', { namespace: 'default', name: 'deny' });
    const until = Date.now() + 20_000;
    while (ears.podsReached < count && Date.now() < until) await sleep(20);
    return { early, reachedAfter: ears.podsReached, addMs, prober: await prober.end() };
  } finally {
    abort.abort();
    ears.close();
    using flows = Conntrack.open(home.ns);
    flows.flush();
  }
}

/** IPAM gives addresses in order: those that come after the knocker's, a few more for good measure. */
function addressesAfter([v4, v6]: readonly string[], count: number): string[] {
  const host = Number(v4!.split('.').at(-1));
  const numbers = Array.from({ length: Math.min(count + 4, 254 - host) }, (_, i) => host + 1 + i);
  const head4 = v4!.slice(0, v4!.lastIndexOf('.') + 1);
  const head6 = v6!.slice(0, v6!.lastIndexOf(':') + 1);
  return numbers.flatMap((number) => [`${head4}${number}`, `${head6}${number.toString(16)}`]);
}

/** Sockets in pods that have no interface yet. */
class Ears {
  heard = 0;
  readonly #reached = new Set<string>();
  readonly #sockets: (Server | UdpSocket)[] = [];

  get podsReached(): number {
    return this.#reached.size;
  }

  async listen({ ns, name }: LabPod): Promise<void> {
    const hear = () => {
      this.heard++;
      this.#reached.add(name);
    };
    const server = createServer((socket) => {
      hear();
      socket.on('error', () => {});
      socket.resetAndDestroy();
    });
    server.listen({ fd: listenTcp({ ns, address: '::', port, v6only: false }) });
    await once(server, 'listening');
    this.#sockets.push(server);
    for (const address of ['0.0.0.0', '::']) {
      const udp = createSocket(address === '::' ? 'udp6' : 'udp4');
      udp.on('message', hear);
      udp.bind({ fd: bindUdp({ ns, address, port }) });
      this.#sockets.push(udp);
    }
  }

  close(): void {
    for (const socket of this.#sockets) socket.close();
  }
}

class Prober implements AsyncDisposable {
  readonly #child;
  readonly #lines;
  readonly #ended: Promise<unknown>;

  private constructor(task: ProberTask) {
    const script = join(import.meta.dirname, 'policy-prober.ts');
    this.#child = spawn(process.execPath, [script, JSON.stringify(task)], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    this.#ended = once(this.#child, 'close');
  }

  /** Resolves when it knocks. */
  static async start(task: ProberTask): Promise<Prober> {
    const prober = new Prober(task);
    await prober.#lines.next();
    return prober;
  }

  async end(): Promise<ProberReport> {
    this.#child.stdin.end();
    const { value } = await this.#lines.next();
    await this.#ended;
    return JSON.parse(String(value)) as ProberReport;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}
