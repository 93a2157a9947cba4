/**
 * Policies beside the real Service rules: through pod addresses, ClusterIPs and NodePorts, from pods of both nodes and from
 * outside, TCP and UDP, IPv4 and IPv6. What source a policy sees is what decides, so that is what is measured: with a policy
 * that lets one address in, exactly those ways get through on which the packet has that address.
 *
 * Kubernetes documents it so: with externalTrafficPolicy Cluster a packet from outside that goes on to another node has the
 * address of the node that it came to; with Local it keeps its own, and a node without an endpoint drops it.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { silentLogger } from '../../src/base/log.ts';
import { Informer } from '../../src/kube/informer.ts';
import type { Draft, KindMap, networkingv1 } from '../../src/kube/types.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { table } from '../../src/node/policy/render.ts';
import { policyObject } from '../../src/node/policy/testing.ts';
import type { Endpoint } from '../../src/node/policy/testing-matrix.ts';
import { ServicesController } from '../../src/node/services/controller.ts';
import { makeNode, makeService, makeSlice } from '../../src/node/services/fixtures.ts';
import { nftablesRules } from '../../src/node/services/nftables/reconciler.ts';
import { PolicyCluster } from './policy-cluster.ts';
import {
  type Family,
  families,
  inParallel,
  node1 as n1,
  node2 as n2,
  nodeOf,
  PolicyLab,
  pods,
  skip,
  world,
} from './policy-lab.ts';

type Addresses = Pick<Endpoint, 'name' | 'v4' | 'v6'>;

const pod = (name: string): Endpoint => pods.find((each) => each.name === name)!;
const [xa, xc, yb, yc] = ['x/a', 'x/c', 'y/b', 'y/c'].map(pod) as [Endpoint, Endpoint, Endpoint, Endpoint];
const nodes = { n1, n2 };
const block = ({ v4, v6 }: Addresses) => [`${v4}/32`, `${v6}/128`];
const servicePort = 8000;

/** Of each endpoint: a Service of either external traffic policy. y/b is on n1, y/c on n2. */
const services = [yb, yc].flatMap((endpoint, i) =>
  (['Cluster', 'Local'] as const).map((externalTrafficPolicy, j) => ({
    name: `${endpoint.pod}-${externalTrafficPolicy.toLowerCase()}`,
    endpoint,
    externalTrafficPolicy,
    nodePort: 30001 + 2 * i + j,
    clusterIp: { name: '', v4: `10.96.0.${1 + 2 * i + j}`, v6: `fd00:10:96::${1 + 2 * i + j}` },
  })),
);

/** One way from a sender to an endpoint. */
interface Way {
  readonly from: Endpoint;
  readonly endpoint: Endpoint;
  readonly what: string;
  readonly to: Addresses;
  readonly port: number;
  /** Whose address the packet has when the endpoint's node judges it; nobody's when it never comes there. */
  readonly source: Addresses | undefined;
}

function ways(): Way[] {
  return services.flatMap(({ endpoint, externalTrafficPolicy, nodePort, clusterIp, name }) =>
    [xa, xc, world].flatMap((from): Way[] => {
      const common = { from, endpoint };
      const direct: Way = { ...common, what: 'pod address', to: endpoint, port: 80, source: from };
      const cluster: Way = { ...common, what: `ClusterIP of ${name}`, to: clusterIp, port: servicePort, source: from };
      const nodePorts = Object.values(nodes).map((at): Way => {
        const what = `NodePort of ${name} at ${at.name}`;
        const source = sourceAt(from, at, endpoint, externalTrafficPolicy);
        return { ...common, what, to: at, port: nodePort, source };
      });
      // Clients outside have no way to a ClusterIP.
      return [direct, ...(from === world ? [] : [cluster]), ...nodePorts];
    }),
  );
}

function sourceAt(
  from: Endpoint,
  at: Addresses,
  endpoint: Endpoint,
  policy: 'Cluster' | 'Local',
): Addresses | undefined {
  const isHere = nodeOf(endpoint) === at.name;
  const isOfOtherNode = from !== world && nodeOf(from) !== at.name;
  if (policy === 'Cluster' || isOfOtherNode) {
    // The node that translates masquerades on the way out; its own rules judge before that.
    return isHere ? from : at;
  }
  // Of pods, traffic to the own cluster's NodePorts is no external traffic; of others, only this node's endpoints count.
  return from !== world || isHere ? from : undefined;
}

describe('policies and Services', { skip }, () => {
  let lab: PolicyLab;
  let cluster: PolicyCluster;
  const abort = new AbortController();
  const closers: (() => void)[] = [];

  before(async () => {
    lab = await PolicyLab.create();
    cluster = await PolicyCluster.create();
    const { client } = cluster;
    for (const node of Object.values(nodes)) {
      const object = makeNode(node.name, [node.v4, node.v6]);
      // The lab gives out addresses by namespace, not by node.
      const podCIDRs = pods.filter((each) => nodeOf(each) === node.name).flatMap(block);
      await client.create('Node', { ...object, spec: { podCIDRs } } as Draft<KindMap['Node']>);
    }
    for (const { name, endpoint, externalTrafficPolicy, nodePort, clusterIp } of services) {
      const ports = ['TCP', 'UDP'].map((protocol) => ({
        name: protocol.toLowerCase(),
        protocol,
        port: servicePort,
        targetPort: 80,
        nodePort,
      }));
      const service = makeService(name, {
        type: 'NodePort',
        clusterIP: clusterIp.v4,
        clusterIPs: [clusterIp.v4, clusterIp.v6],
        ipFamilies: ['IPv4', 'IPv6'],
        externalTrafficPolicy,
        ports,
      });
      await client.create('Service', service as Draft<KindMap['Service']>);
      for (const family of families) {
        const slicePorts = ports.map((each) => ({ name: each.name, port: 80, protocol: each.protocol }));
        const slice = makeSlice(name, [{ address: endpoint[family], node: nodeOf(endpoint) }], slicePorts);
        await client.create('EndpointSlice', slice as Draft<KindMap['EndpointSlice']>);
      }
    }
    for (const node of lab.nodes) {
      await cluster.startAgent(node);
      const common = { client, log: silentLogger };
      const nft = Nftables.open(node.ns);
      closers.push(() => nft.close());
      const controller = new ServicesController({
        nodeName: node.name,
        informers: {
          services: new Informer('Service', common),
          endpointSlices: new Informer('EndpointSlice', common),
          pods: new Informer('Pod', common),
          nodes: new Informer('Node', common),
        },
        rules: nftablesRules(nft),
        conntrack: node.flows,
        podCidrs: ['10.244.0.0/16', 'fd00:10:244::/48'],
        serviceCidrs: ['10.96.0.0/16', 'fd00:10:96::/112'],
        log: silentLogger,
      });
      await controller.start(abort.signal);
    }
  });
  after(async () => {
    abort.abort();
    for (const close of closers) close();
    await cluster?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  /** Goes all ways at once, in both protocols and families. */
  async function assertWays(all: readonly Way[], expected: (way: Way, family: Family) => boolean): Promise<void> {
    await cluster.settled(lab.nodes);
    lab.forgetFlows();
    const tries = all.flatMap((way) =>
      ['TCP', 'UDP'].flatMap((protocol) => families.map((family) => ({ way, protocol, family }))),
    );
    const wrong: string[] = [];
    await inParallel(tries, 64, async ({ way, protocol, family }) => {
      const wanted = expected(way, family);
      const to: Endpoint = { ...way.endpoint, name: way.what, v4: way.to.v4, v6: way.to.v6 };
      const passed = await lab.connects(way.from, to, protocol, way.port, family, wanted);
      if (passed !== wanted) {
        wrong.push(`${way.from.name} -> ${way.endpoint.name} by ${way.what}, ${protocol} ${family}: ${passed}`);
      }
    });
    assert.deepEqual(wrong, []);
  }

  const onlyFrom = (key: string, blocks: readonly string[]): networkingv1.NetworkPolicySpec => ({
    podSelector: { matchLabels: { pod: key } },
    ingress: [{ from: blocks.map((cidr) => ({ ipBlock: { cidr } })) }],
  });

  test('without policies every way is open but a Local one to a node without endpoints', async () => {
    await cluster.replacePolicies([]);
    await assertWays(ways(), ({ source }) => source !== undefined);
  });

  for (const source of [xa, xc, world, n1, n2]) {
    test(`exactly what has the address of ${source.name} gets in when only that is let in`, async () => {
      await cluster.replacePolicies(['b', 'c'].map((key) => policyObject(`y/${key}`, onlyFrom(key, block(source)))));
      const all = ways();
      assert.ok(all.some((way) => way.source === source));
      await assertWays(all, (way) => way.source === source);
    });
  }

  test('a selector of pods knows the sender behind a Service, but not behind another node’s address', async () => {
    const spec = (key: string): networkingv1.NetworkPolicySpec => ({
      podSelector: { matchLabels: { pod: key } },
      ingress: [{ from: [{ namespaceSelector: { matchLabels: { ns: 'x' } }, podSelector: {} }] }],
    });
    await cluster.replacePolicies(['b', 'c'].map((key) => policyObject(`y/${key}`, spec(key))));
    await assertWays(ways(), ({ from, source }) => from !== world && source === from);
  });

  test('default deny holds on every way', async () => {
    await cluster.replacePolicies([policyObject('y/deny', { podSelector: {}, policyTypes: ['Ingress'] })]);
    await assertWays(ways(), () => false);
  });

  test('egress is judged on the endpoint where the sender’s node translates, on the address of the other node elsewhere', async () => {
    const egress = (to: networkingv1.NetworkPolicyPeer[]) =>
      ['a', 'c'].map((key) =>
        policyObject(`x/${key}`, {
          podSelector: { matchLabels: { pod: key } },
          policyTypes: ['Egress'],
          egress: [{ to }],
        }),
      );
    const fromPods = ways().filter(({ from }) => from !== world);
    const isElsewhere = ({ from, to }: Way) => (to === n1 || to === n2) && nodeOf(from) !== to.name;
    await cluster.replacePolicies(egress([{ namespaceSelector: { matchLabels: { ns: 'y' } } }]));
    await assertWays(fromPods, (way) => !isElsewhere(way));
    await cluster.replacePolicies(egress([...block(n1), ...block(n2)].map((cidr) => ({ ipBlock: { cidr } }))));
    await assertWays(fromPods, isElsewhere);
  });

  test('a pod reaches itself through its own Service, whatever policies say', async () => {
    await cluster.replacePolicies([policyObject('y/deny', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] })]);
    const own = services.flatMap(({ endpoint, clusterIp, nodePort, name }): Way[] => {
      const common = { from: endpoint, endpoint, source: endpoint };
      const home = nodes[nodeOf(endpoint)];
      return [
        { ...common, what: `ClusterIP of ${name}`, to: clusterIp, port: servicePort },
        { ...common, what: `NodePort of ${name} at home`, to: home, port: nodePort },
      ];
    });
    await assertWays(own, () => true);
  });

  test('the rules of both were beside each other all the time', () => {
    for (const { eyes } of lab.nodes) {
      const tables = eyes.list('tables');
      assert.match(tables, new RegExp(table));
      assert.match(tables, /podwire-services/);
    }
  });
});
