/** NodePorts and host ports at 127.0.0.1, in the modes of the proxy that serve them, and that nothing else gets there. */
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.ts';
import type { Service } from '../../src/kube/types.ts';
import type { NetworkNamespace } from '../../src/linux/netns.ts';
import { bindUdp } from '../../src/linux/sockets.ts';
import { writeSysctl } from '../../src/linux/sysctl.ts';
import { makePod, makeService, makeSlice } from '../../src/node/services/fixtures.ts';
import { buildHostPorts } from '../../src/node/services/host-ports.ts';
import { buildService, type NodeView } from '../../src/node/services/model.ts';
import { LOCALHOST } from '../../src/node/services/node-addresses.ts';
import type { ServiceRules } from '../../src/node/services/rules.ts';
import { StaleFlows } from '../../src/node/services/stale-flows.ts';
import {
  ADDRESSES,
  NODE_ADDRESSES,
  type Outcome,
  PLACES,
  type Place,
  type Probe,
  ServicesLab,
} from './services-lab.ts';
import type { ModeUnderTest } from './services-modes.ts';

const view: NodeView = { name: 'n1', nodePortAddresses: [...NODE_ADDRESSES, LOCALHOST] };
const PORTS = [
  { name: 'http', port: 8080, protocol: 'TCP' },
  { name: 'dns', port: 8080, protocol: 'UDP' },
];
const SPEC: Service['spec'] = {
  type: 'NodePort',
  clusterIPs: ['10.96.0.10', 'fd00:10:96::10'],
  ports: [
    { name: 'http', port: 80, nodePort: 30080 },
    { name: 'dns', port: 53, protocol: 'UDP', nodePort: 30053 },
  ],
};
const nodeIp = NODE_ADDRESSES[0]!;
const [outsideIp] = PLACES.outside;

const at = (place: Place, family: 4 | 6 = 4): string =>
  PLACES[place].find((address) => address.includes(':') === (family === 6))!;
const endpoint = (place: Place, family: 4 | 6 = 4): string => `${at(place, family)} 8080`;

function answered(outcome: Outcome): Extract<Outcome, { kind: 'answer' }> {
  assert.equal(outcome.kind, 'answer', `got ${outcome.kind}`);
  return outcome as Extract<Outcome, { kind: 'answer' }>;
}

/** What arrives at a UDP port. */
class Received implements Disposable {
  readonly texts: string[] = [];
  readonly first: Promise<void>;
  readonly #socket: dgram.Socket;

  private constructor(socket: dgram.Socket) {
    this.#socket = socket;
    this.first = new Promise((resolve) => {
      socket.on('message', (bytes) => {
        this.texts.push(bytes.toString());
        resolve();
      });
    });
  }

  static async at(ns: NetworkNamespace, address: string, port: number): Promise<Received> {
    const socket = dgram.createSocket('udp4');
    await new Promise<void>((resolve) => socket.bind({ fd: bindUdp({ ns, address, port }) }, resolve));
    return new Received(socket);
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

/** Defines the suite for a mode. */
export function describeLocalhost(mode: ModeUnderTest): void {
  describe(`services at 127.0.0.1 in mode ${mode.name}`, () => {
    let lab: ServicesLab;
    let rules: ServiceRules;
    let flows: StaleFlows;
    before(async () => {
      lab = await ServicesLab.start();
      lab.routeLocalhost();
      await mode.prepare?.(lab);
      flows = new StaleFlows({ conntrack: lab.conntrack, serviceCidrs: ADDRESSES.serviceCidrs, log: silentLogger });
      rules = mode.open(lab, { flows });
    });
    after(async () => {
      flows?.stop();
      await lab?.[Symbol.asyncDispose]();
    });

    const put = async (spec: Service['spec'], places: readonly Place[]) => {
      const slices = ([4, 6] as const).map((family) =>
        makeSlice(
          'svc',
          places.map((place) => ({ address: at(place, family), node: place.startsWith('far') ? 'n2' : 'n1' })),
          PORTS,
          { addressType: family === 4 ? 'IPv4' : 'IPv6', suffix: `v${family}` },
        ),
      );
      const model = buildService(makeService('svc', spec), slices, view);
      await rules.apply([[model.key, model]]);
      await rules.apply([]);
    };
    /** A loaded machine may be silent for longer than a probe waits; rules that drop are silent every time. */
    const ask = async (protocol: 'tcp' | 'udp', from: Probe['from'], destination: string, port: number) => {
      const outcome = await lab.probe({ from, destination, port, protocol });
      return outcome.kind === 'silence' ? lab.probe({ from, destination, port, protocol }) : outcome;
    };
    const http = (from: Probe['from'], destination: string, port: number) => ask('tcp', from, destination, port);
    const dns = (from: Probe['from'], destination: string, port: number) => ask('udp', from, destination, port);

    it('serves a NodePort and a host port at 127.0.0.1, for the node alone', async () => {
      for (const place of ['b', 'far-a'] as const) {
        await put({ ...SPEC, externalTrafficPolicy: 'Local' }, [place]);
        const answer = answered(await http('node', LOCALHOST, 30080));
        assert.equal(answer.endpoint, endpoint(place));
        assert.ok((NODE_ADDRESSES as readonly string[]).includes(answer.seenSource), answer.seenSource);
        assert.equal(answered(await dns('node', LOCALHOST, 30053)).endpoint, endpoint(place));
        // Pods have a loopback of their own.
        assert.equal((await http('a', LOCALHOST, 30080)).kind, 'refused');
      }
      await put(SPEC, []);
      assert.equal((await http('node', LOCALHOST, 30080)).kind, 'refused');
      await rules.apply([['default/svc', undefined]]);
      const ports = [
        { containerPort: 8080, hostPort: 9090 },
        { containerPort: 8080, hostPort: 9091, hostIP: LOCALHOST },
        { containerPort: 8080, hostPort: 9092, hostIP: '127.0.0.5' },
      ];
      const pod = makePod('web', { nodeName: 'n1', containers: [{ name: 'c', ports }] }, [at('b')]);
      const model = buildHostPorts(pod, view);
      await rules.apply([[model.key, model]]);
      assert.equal(answered(await http('node', LOCALHOST, 9090)).endpoint, endpoint('b'));
      assert.equal(answered(await http('node', LOCALHOST, 9091)).endpoint, endpoint('b'));
      assert.equal(answered(await http('node', '127.0.0.5', 9092)).endpoint, endpoint('b'));
      assert.equal((await http('outside', nodeIp, 9091)).kind, 'refused');
      await rules.apply([[model.key, undefined]]);
    });

    it('is refused at [::1], where it is impossible', async () => {
      // The kernel takes answers to ::1 from the loopback interface only, whatever conntrack makes of their address.
      await put(SPEC, ['b']);
      assert.equal((await http('node', '::1', 30080)).kind, 'refused');
    });

    it('takes nothing that comes to or from 127.0.0.0/8 over a link', async () => {
      await put(SPEC, ['b']);
      using received = await Received.at(lab.node, LOCALHOST, 7777);
      const before = new Set(lab.conntrack.list({ family: 4 }).map(({ id }) => id));
      lab.sendFrom('outside', { source: outsideIp, destination: LOCALHOST, port: 30053 });
      lab.sendFrom('outside', { source: outsideIp, destination: LOCALHOST, port: 7777 });
      lab.sendFrom('outside', { source: LOCALHOST, destination: nodeIp, port: 30053 });
      lab.sendFrom('outside', { source: LOCALHOST, destination: LOCALHOST, port: 7777 });
      // What is allowed goes the same way and arrives after them.
      lab.sendFrom('outside', { source: outsideIp, destination: nodeIp, port: 30053, sourcePort: 4242 });
      const flows = () => lab.conntrack.list({ family: 4 }).filter(({ id }) => !before.has(id));
      for (let i = 0; i < 100 && !flows().some(({ orig }) => orig.sourcePort === 4242); i++)
        await new Promise((resolve) => setTimeout(resolve, 20));
      assert.deepEqual(
        flows().map(({ orig, reply }) => [orig.source, orig.destination, reply.source]),
        [[outsideIp, nodeIp, at('b')]],
      );
      assert.deepEqual(received.texts, []);
    });

    it('lets nothing leave from 127.0.0.0/8 untranslated', async () => {
      await put(SPEC, ['b']);
      // A receiver that would take it.
      for (const key of ['route_localnet', 'accept_local']) writeSysctl(lab.space('b'), `net.ipv4.conf.all.${key}`, 1);
      using received = await Received.at(lab.space('b'), at('b'), 7778);
      for (const source of [LOCALHOST, nodeIp]) {
        const socket = dgram.createSocket('udp4');
        await new Promise<void>((resolve) =>
          socket.bind({ fd: bindUdp({ ns: lab.node, address: source, port: 0 }) }, resolve),
        );
        await new Promise<void>((resolve) => socket.send(source, 7778, at('b'), () => resolve()));
        socket.close();
      }
      await received.first;
      assert.deepEqual(received.texts, [nodeIp]);
    });
  });
}
