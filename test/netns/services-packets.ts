/** What Services do to packets, in every mode of the proxy: rules in a kernel, clients and servers in namespaces. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.ts';
import type { EndpointSlice, Service } from '../../src/kube/types.ts';
import { type EndpointSpec, makePod, makeService, makeSlice } from '../../src/node/services/fixtures.ts';
import { buildHostPorts } from '../../src/node/services/host-ports.ts';
import { buildService, type NodeView, type ServiceModel } from '../../src/node/services/model.ts';
import { LOCALHOST } from '../../src/node/services/node-addresses.ts';
import type { ServiceRules } from '../../src/node/services/rules.ts';
import { StaleFlows } from '../../src/node/services/stale-flows.ts';
import {
  ADDRESSES,
  type FlowClient,
  NODE_ADDRESSES,
  type Outcome,
  PATIENCE_MS,
  PLACES,
  type Place,
  type Probe,
  ServicesLab,
} from './services-lab.ts';
import type { ModeUnderTest } from './services-modes.ts';

const view: NodeView = { name: 'n1', nodePortAddresses: NODE_ADDRESSES };

const at = (place: Place, family: 4 | 6): string =>
  PLACES[place].find((address) => address.includes(':') === (family === 6))!;
const isFar = (place: Place): boolean => place.startsWith('far');

const PORTS = [
  { name: 'http', port: 8080, protocol: 'TCP' },
  { name: 'dns', port: 8080, protocol: 'UDP' },
];

function slicesOf(name: string, places: readonly Place[], extra: Partial<EndpointSpec> = {}): EndpointSlice[] {
  return ([4, 6] as const).map((family) =>
    makeSlice(
      name,
      places.map((place) => ({ address: at(place, family), node: isFar(place) ? 'n2' : 'n1', ...extra })),
      PORTS,
      { addressType: family === 4 ? 'IPv4' : 'IPv6', suffix: `v${family}` },
    ),
  );
}

const SPEC: Service['spec'] = {
  clusterIPs: ['10.96.0.10', 'fd00:10:96::10'],
  ports: [
    { name: 'http', port: 80, nodePort: 30080 },
    { name: 'dns', port: 53, protocol: 'UDP', nodePort: 30053 },
  ],
};

/** Defines the suite for a mode, for both families. */
export function describePackets(mode: ModeUnderTest): void {
  for (const family of [4, 6] as const) describePacketsOf(mode, family);
}

function describePacketsOf(mode: ModeUnderTest, family: 4 | 6): void {
  describe(`IPv${family} service packets in mode ${mode.name}`, () => {
    let lab: ServicesLab;
    let rules: ServiceRules;
    let flows: StaleFlows;
    const clusterIp = family === 4 ? '10.96.0.10' : 'fd00:10:96::10';
    const nodeIp = family === 4 ? '192.0.2.1' : '2001:db8::1';
    const outsideIp = at('outside', family);
    const otherOutsideIp = family === 4 ? '198.51.100.9' : '2001:db8:64::9';
    const balancerIp = family === 4 ? '203.0.113.5' : '2001:db8:cb::5';

    before(async () => {
      lab = await ServicesLab.start();
      await mode.prepare?.(lab);
      flows = new StaleFlows({ conntrack: lab.conntrack, serviceCidrs: ADDRESSES.serviceCidrs, log: silentLogger });
      rules = mode.open(lab, { flows });
    });
    after(async () => {
      flows?.stop();
      await lab?.[Symbol.asyncDispose]();
    });

    const apply = async (model: ServiceModel) => {
      await rules.apply([[model.key, model]]);
      await rules.apply([]);
    };
    const put = (
      spec: Service['spec'],
      places: readonly Place[],
      extra: Partial<EndpointSpec> = {},
      ingress: object[] = [],
    ) => apply(buildService(makeService('svc', spec, ingress), slicesOf('svc', places, extra), view));
    const http = (from: Probe['from'], destination = clusterIp, port = 80, rest: Partial<Probe> = {}) =>
      lab.probe({ from, destination, port, protocol: 'tcp', waitMs: PATIENCE_MS, ...rest });
    /** Waits no longer than it takes to call it silence. */
    const silent = async (from: Probe['from'], destination = clusterIp, port = 80, rest: Partial<Probe> = {}) =>
      assert.equal((await lab.probe({ from, destination, port, protocol: 'tcp', ...rest })).kind, 'silence');
    const dns = (from: Probe['from'], destination = clusterIp, port = 53) =>
      lab.probe({ from, destination, port, protocol: 'udp', waitMs: PATIENCE_MS });
    /** Flows end with the commit, or up to half a second later when others were ended just before. */
    const until = async (client: FlowClient, wanted: string) => {
      let met: Outcome | undefined;
      const text = () => (met?.kind === 'answer' ? met.endpoint : met?.kind);
      for (let i = 0; i < 40 && text() !== wanted; i++) {
        if (i > 0) await new Promise((resolve) => setTimeout(resolve, 50));
        met = await client.ask();
      }
      assert.equal(text(), wanted);
    };
    const endpoint = (place: Place) => `${at(place, family)} 8080`;
    const answered = (outcome: Outcome): Extract<Outcome, { kind: 'answer' }> => {
      assert.equal(outcome.kind, 'answer', `got ${outcome.kind}`);
      return outcome as Extract<Outcome, { kind: 'answer' }>;
    };
    const all = async (n: number, ask: () => Promise<Outcome>) => {
      const outcomes = await Promise.all(Array.from({ length: n }, ask));
      return new Set(outcomes.map((outcome) => answered(outcome).endpoint));
    };

    /** An open connection to a server that says back what it is told. */
    const established = async (from: Probe['from'], destination: string, port: number) => {
      const socket = await lab.connect({ from, destination, port, protocol: 'tcp', waitMs: PATIENCE_MS });
      await new Promise((resolve) => socket.once('data', resolve));
      const echo = (text: string) =>
        new Promise<string>((resolve, reject) => {
          const timer = setTimeout(() => reject(new Error(`no echo of ${text}`)), PATIENCE_MS);
          socket.once('data', (bytes) => {
            clearTimeout(timer);
            resolve(bytes.toString());
          });
          socket.write(text);
        });
      return { socket, echo };
    };

    it('spreads a ClusterIP over its endpoints, from a pod with its own address', async () => {
      await put(SPEC, ['b', 'far-a']);
      assert.deepEqual(await all(40, () => http('a')), new Set([endpoint('b'), endpoint('far-a')]));
      assert.deepEqual(await all(40, () => dns('a')), new Set([endpoint('b'), endpoint('far-a')]));
      assert.equal(answered(await http('a')).seenSource, at('a', family));
    });

    it('masquerades a ClusterIP for the node and for clients outside', async () => {
      await put(SPEC, ['b']);
      assert.notEqual(answered(await http('outside')).seenSource, outsideIp);
      assert.equal(answered(await http('node')).endpoint, endpoint('b'));
      assert.equal(answered(await dns('node')).endpoint, endpoint('b'));
    });

    it('lets a pod reach itself through its Service', async () => {
      await put(SPEC, ['a']);
      const answer = answered(await http('a'));
      assert.equal(answer.endpoint, endpoint('a'));
      // In a packet's path it has to be masqueraded; a socket is connected to its own address.
      assert.equal(answer.seenSource === at('a', family), mode.translates === 'sockets');
      assert.equal(answered(await dns('a')).endpoint, endpoint('a'));
    });

    it('rejects without endpoints and on unused ports of a ClusterIP', async () => {
      await put(SPEC, []);
      for (const from of ['a', 'node', 'outside'] as const) {
        assert.equal((await http(from)).kind, 'refused');
        assert.equal((await dns(from)).kind, 'refused');
        assert.equal((await http(from, clusterIp, 81)).kind, 'refused');
        assert.equal((await dns(from, clusterIp, 81)).kind, 'refused');
        assert.equal((await http(from, family === 4 ? '10.96.7.7' : 'fd00:10:96::7777')).kind, 'refused');
      }
    });

    it('serves a NodePort on every address of the node, masqueraded under policy Cluster', async () => {
      await put({ ...SPEC, type: 'NodePort' }, ['far-a']);
      for (const destination of NODE_ADDRESSES.filter((address) => address.includes(':') === (family === 6))) {
        const answer = answered(await http('outside', destination, 30080));
        assert.equal(answer.endpoint, endpoint('far-a'));
        assert.notEqual(answer.seenSource, outsideIp);
        assert.equal(answered(await dns('outside', destination, 30053)).endpoint, endpoint('far-a'));
        assert.equal(answered(await http('node', destination, 30080)).endpoint, endpoint('far-a'));
        assert.equal(answered(await http('a', destination, 30080)).endpoint, endpoint('far-a'));
      }
      assert.equal((await http('outside', nodeIp, 30081)).kind, 'refused');
    });

    it('keeps the client address under externalTrafficPolicy Local, and drops without local endpoints', async () => {
      await put({ ...SPEC, type: 'NodePort', externalTrafficPolicy: 'Local' }, ['b', 'far-a']);
      const seen = answered(await http('outside', nodeIp, 30080));
      assert.deepEqual([seen.endpoint, seen.seenSource], [endpoint('b'), outsideIp]);
      assert.deepEqual(await all(20, () => http('outside', nodeIp, 30080)), new Set([endpoint('b')]));
      assert.deepEqual(await all(40, () => http('a', nodeIp, 30080)), new Set([endpoint('b'), endpoint('far-a')]));
      await put({ ...SPEC, type: 'NodePort', externalTrafficPolicy: 'Local' }, ['far-a']);
      await silent('outside', nodeIp, 30080);
      assert.equal(answered(await http('a', nodeIp, 30080)).endpoint, endpoint('far-a'));
      assert.equal(answered(await http('node', nodeIp, 30080)).endpoint, endpoint('far-a'));
    });

    it('masquerades a pod of another node under externalTrafficPolicy Local, so that every answer comes by here', async () => {
      for (const place of ['b', 'far-a', 'far-b'] as const) {
        await put({ ...SPEC, type: 'NodePort', externalTrafficPolicy: 'Local' }, [place]);
        for (const outcome of [await http('far-a', nodeIp, 30080), await dns('far-a', nodeIp, 30053)]) {
          const answer = answered(outcome);
          assert.equal(answer.endpoint, endpoint(place));
          assert.notEqual(answer.seenSource, at('far-a', family), place);
        }
        // The node's own pods keep their address.
        const own = answered(await http('a', nodeIp, 30080));
        assert.deepEqual([own.endpoint, own.seenSource], [endpoint(place), at('a', family)]);
      }
    });

    it('keeps to the node under internalTrafficPolicy Local', async () => {
      await put({ ...SPEC, internalTrafficPolicy: 'Local' }, ['b', 'far-a']);
      assert.deepEqual(await all(20, () => http('a')), new Set([endpoint('b')]));
      await put({ ...SPEC, internalTrafficPolicy: 'Local' }, ['far-a']);
      await silent('a');
    });

    it('serves external and load-balancer addresses, with source ranges, and leaves ipMode Proxy alone', async () => {
      const external = family === 4 ? '203.0.113.77' : '2001:db8:cb::77';
      const proxied = family === 4 ? '203.0.113.6' : '2001:db8:cb::6';
      const spec: Service['spec'] = {
        ...SPEC,
        type: 'LoadBalancer',
        externalIPs: [external],
        loadBalancerSourceRanges: [`${outsideIp}/${family === 4 ? 32 : 128}`],
      };
      await put(spec, ['b'], {}, [
        { ip: balancerIp, ipMode: 'VIP' },
        { ip: proxied, ipMode: 'Proxy' },
      ]);
      assert.equal(answered(await http('outside', external)).endpoint, endpoint('b'));
      assert.equal(answered(await http('outside', balancerIp)).endpoint, endpoint('b'));
      await silent('outside', balancerIp, 80, { source: otherOutsideIp });
      assert.equal(answered(await http('outside', external, 80, { source: otherOutsideIp })).endpoint, endpoint('b'));
      await silent('outside', proxied);
    });

    it('keeps a client with its endpoint, forgets it in time, and picks anew when the endpoint goes', async () => {
      const sessionAffinityConfig = { clientIP: { timeoutSeconds: 1 } };
      const spec: Service['spec'] = { ...SPEC, sessionAffinity: 'ClientIP', sessionAffinityConfig };
      const places: Place[] = ['a', 'b', 'c', 'far-a', 'far-b'];
      await put({ ...spec, sessionAffinityConfig: { clientIP: { timeoutSeconds: 300 } } }, places);
      const first = await all(20, () => http('outside'));
      assert.equal(first.size, 1);
      const left = places.filter((place) => endpoint(place) !== [...first][0]);
      await put({ ...spec, sessionAffinityConfig: { clientIP: { timeoutSeconds: 300 } } }, left);
      const second = await all(20, () => http('outside'));
      assert.equal(second.size, 1);
      assert.notDeepEqual(second, first);
      if (!mode.forgetsInTime) return;
      await put(spec, left);
      const later = new Set<string>();
      for (let i = 0; i < 12 && later.size < 2; i++) {
        later.add(answered(await http('outside', clusterIp, 80, { source: otherOutsideIp })).endpoint);
        await new Promise((resolve) => setTimeout(resolve, 1100));
      }
      assert.ok(later.size > 1, 'a client was never forgotten');
    });

    it('remembers clients through a rebuild and a new agent', async () => {
      const spec: Service['spec'] = { ...SPEC, sessionAffinity: 'ClientIP' };
      const places: Place[] = ['a', 'b', 'c', 'far-a', 'far-b'];
      const clients = [outsideIp, otherOutsideIp];
      const homes = async () =>
        Promise.all(clients.map(async (source) => answered(await http('outside', clusterIp, 80, { source })).endpoint));
      await put(spec, places);
      const before = await homes();
      rules.invalidate();
      await rules.apply([]);
      assert.deepEqual(await homes(), before);
      const next = mode.open(lab);
      const model = buildService(makeService('svc', spec), slicesOf('svc', places.toReversed()), view);
      await next.apply([[model.key, model]]);
      for (let i = 0; i < 3; i++) assert.deepEqual(await homes(), before);
      await mode.assertFresh(lab, next);
      rules.invalidate();
      await rules.apply([]);
    });

    it('keeps affinity also under externalTrafficPolicy Local', async () => {
      const spec: Service['spec'] = {
        ...SPEC,
        type: 'NodePort',
        externalTrafficPolicy: 'Local',
        sessionAffinity: 'ClientIP',
      };
      await put(spec, ['a', 'b', 'c', 'far-a', 'far-b']);
      const stuck = await all(20, () => http('outside', nodeIp, 30080));
      assert.equal(stuck.size, 1);
      assert.ok([endpoint('a'), endpoint('b'), endpoint('c')].includes([...stuck][0]!));
      assert.equal(answered(await http('outside', nodeIp, 30080)).seenSource, outsideIp);
    });

    it('moves a UDP flow when its endpoint goes, at zero endpoints, and when the Service comes back', async () => {
      await put(SPEC, ['b']);
      using client = await lab.udpClient({ from: 'a', destination: clusterIp, port: 53, protocol: 'udp' });
      assert.equal(answered(await client.ask()).endpoint, endpoint('b'));
      await put(SPEC, ['far-a']);
      await until(client, endpoint('far-a'));
      await put(SPEC, []);
      await until(client, 'refused');
      await put(SPEC, ['c']);
      await until(client, endpoint('c'));
      await rules.apply([['default/svc', undefined]]);
      await until(client, 'refused');
    });

    it('clears what a client of a NodePort left before the Service existed', async () => {
      await rules.apply([['default/svc', undefined]]);
      using client = await lab.udpClient({ from: 'outside', destination: nodeIp, port: 30053, protocol: 'udp' });
      assert.equal((await client.ask()).kind, 'refused');
      await put({ ...SPEC, type: 'NodePort' }, ['b']);
      await until(client, endpoint('b'));
    });

    it('leaves a UDP flow alone that began while flows from before the Service were still to be ended', async () => {
      // Every other pass over the flows is put off.
      for (const places of [['b'], [], ['b'], [], ['b']] as const) await put({ ...SPEC, type: 'NodePort' }, places);
      const sourcePort = 40053;
      using client = await lab.udpClient({
        from: 'outside',
        destination: nodeIp,
        port: 30053,
        protocol: 'udp',
        sourcePort,
      });
      const flowIds = () => {
        const udp = lab.conntrack.list({ family, protocol: 'udp' });
        return udp.flatMap(({ orig, id }) => (orig.sourcePort === sourcePort ? [id] : []));
      };
      await until(client, endpoint('b'));
      const before = flowIds();
      await new Promise((resolve) => setTimeout(resolve, 700));
      assert.equal(before.length, 1);
      assert.deepEqual(flowIds(), before);
    });

    it('keeps established TCP through removal of the endpoint, resync, rebuild and a new agent', async () => {
      await put(SPEC, ['b']);
      const { socket, echo } = await established('a', clusterIp, 80);
      assert.equal(await echo('one'), 'one');
      rules.invalidate();
      await rules.apply([]);
      assert.equal(await echo('two'), 'two');
      const next = mode.open(lab, { flows });
      const model = buildService(makeService('svc', SPEC), slicesOf('svc', ['b']), view);
      await next.apply([[model.key, model]]);
      assert.equal(await echo('three'), 'three');
      await next.apply([[model.key, undefined]]);
      assert.equal(await echo('four'), 'four');
      socket.destroy();
      rules.invalidate();
      await rules.apply([]);
    });

    it('serves host ports of pods with the client address kept', async () => {
      await rules.apply([['default/svc', undefined]]);
      const ports = [
        { containerPort: 8080, hostPort: 9090 },
        { containerPort: 8081, hostPort: 9091, protocol: 'UDP' },
      ];
      const pod = makePod('web', { nodeName: 'n1', containers: [{ name: 'c', ports }] }, [at('b', family)]);
      const model = buildHostPorts(pod, view);
      await apply(model);
      const answer = answered(await http('outside', nodeIp, 9090));
      assert.deepEqual([answer.endpoint, answer.seenSource], [endpoint('b'), outsideIp]);
      const udp = await lab.probe({
        waitMs: PATIENCE_MS,
        from: 'outside',
        destination: nodeIp,
        port: 9091,
        protocol: 'udp',
      });
      assert.equal(answered(udp).endpoint, `${at('b', family)} 8081`);
      assert.equal(answered(await http('node', nodeIp, 9090)).endpoint, endpoint('b'));
      const { socket, echo } = await established('outside', nodeIp, 9090);
      await rules.apply([[model.key, undefined]]);
      for (const from of ['outside', 'a', 'node'] as const)
        assert.equal((await http(from, nodeIp, 9090)).kind, 'refused', `${from}, when the pod is gone`);
      assert.equal(await echo('still there'), 'still there');
      socket.destroy();
    });

    it('refuses at once a host port at a loopback address that is not served, and tells of it', async () => {
      const hostIP = family === 4 ? LOCALHOST : '::1';
      const ports = [{ containerPort: 8080, hostPort: 9092, hostIP }];
      const pod = makePod('local', { nodeName: 'n1', containers: [{ name: 'c', ports }] }, [at('b', family)]);
      const model = buildHostPorts(pod, view);
      await apply(model);
      assert.equal((await http('node', hostIP, 9092)).kind, 'refused');
      assert.deepEqual(
        model.problems.map(({ kind, name, reason }) => `${kind} ${name} ${reason}`),
        ['Pod local UnsupportedAddress'],
      );
      await rules.apply([[model.key, undefined]]);
    });
  });
}
