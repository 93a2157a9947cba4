/** What IPVS forwards does not pass the forward hook: policies judge it all the same, after translation. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { parseCidr } from '../../src/base/ip.ts';
import { silentLogger } from '../../src/base/log.ts';
import { Ipvs } from '../../src/linux/ipvs.ts';
import { policyObject } from '../../src/node/policy/testing.ts';
import { type Endpoint, pods } from '../../src/node/policy/testing-matrix.ts';
import { makeService, makeSlice, makeView } from '../../src/node/services/fixtures.ts';
import { ipvsRules } from '../../src/node/services/ipvs/reconciler.ts';
import { buildService } from '../../src/node/services/model.ts';
import { PolicyCluster } from '../netns/policy-cluster.ts';
import { type Family, families, PolicyLab } from '../netns/policy-lab.ts';

const pod = (name: string): Endpoint => pods.find((each) => each.name === name)!;
const [xa, xb, yb, yc] = ['x/a', 'x/b', 'y/b', 'y/c'].map(pod) as [Endpoint, Endpoint, Endpoint, Endpoint];
const PORT = 8000;
const near = { ...yb, v4: '10.96.0.10', v6: 'fd00:10:96::10' };
const far = { ...yc, v4: '10.96.0.11', v6: 'fd00:10:96::11' };
/** Leads to the near pod; masqueraded for everybody. */
const external = { ...yb, v4: '203.0.113.7', v6: '2001:db8:cb::7' };

describe('policies in mode ipvs', () => {
  let lab: PolicyLab;
  let cluster: PolicyCluster;

  before(async () => {
    lab = await PolicyLab.create();
    cluster = await PolicyCluster.create();
    await cluster.startAgent(lab.n1, { podTimeoutMs: 100 });
    await cluster.startAgent(lab.n2);
    const { ns, rtnl: links, eyes: nft } = lab.n1;
    const rules = ipvsRules({ ns, ipvs: Ipvs.open(ns), links, nft })({
      addresses: {
        podCidrs: pods.flatMap(({ v4, v6 }) => [parseCidr(`${v4}/32`), parseCidr(`${v6}/128`)]),
        ownPodCidrs: [xa, xb, yb].flatMap(({ v4, v6 }) => [parseCidr(`${v4}/32`), parseCidr(`${v6}/128`)]),
        serviceCidrs: ['10.96.0.0/16', 'fd00:10:96::/112'].map(parseCidr),
      },
      log: silentLogger,
    });
    const ports = ['TCP', 'UDP'].map((protocol) => ({ name: protocol.toLowerCase(), port: PORT, protocol }));
    const model = (name: string, to: Endpoint, target: Endpoint, node: string) =>
      buildService(
        makeService(name, {
          clusterIPs: [target.v4, target.v6],
          ports,
          ...(target === near ? { externalIPs: [external.v4, external.v6] } : {}),
        }),
        families.map((family) =>
          makeSlice(
            name,
            [{ address: to[family], node }],
            ports.map((port) => ({ ...port, port: 80 })),
          ),
        ),
        makeView('n1', []),
      );
    const models = [model('near', yb, near, 'n1'), model('far', yc, far, 'n2')];
    await rules.apply(models.map((each) => [each.key, each]));
  });
  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  const reaches = async (from: Endpoint, to: Endpoint, expected: boolean) => {
    lab.forgetFlows();
    for (const family of families)
      for (const protocol of ['TCP', 'UDP'])
        assert.equal(
          await lab.connects(from, to, protocol, PORT, family as Family, expected),
          expected,
          `${from.name} ${protocol} ${family}`,
        );
  };
  const under = async (...policies: Parameters<typeof policyObject>[]) => {
    await cluster.replacePolicies(policies.map((each) => policyObject(...each)));
    await cluster.settled(lab.nodes);
  };
  const allowFrom = (name: string) => [
    { from: [{ namespaceSelector: {}, podSelector: { matchLabels: { pod: name } } }] },
  ];

  test('without policies Services are reached, on this node and another', async () => {
    await reaches(xa, near, true);
    await reaches(xa, far, true);
    await reaches(yb, near, true);
  });

  test('a pod that is isolated for ingress is not reached through its Service, except by whom it allows', async () => {
    await under(['y/some', { podSelector: {}, policyTypes: ['Ingress'], ingress: allowFrom('a') }]);
    await reaches(xa, near, true);
    await reaches(xb, near, false);
    await reaches(xb, far, false);
    await reaches(yb, near, true);
    assert.ok(await lab.connects(xa, external, 'UDP', PORT, 'v4', true));
    assert.notEqual(lab.lastSource.get('y/b'), xa.v4, 'the masquerade mark survives');
    await reaches(xb, external, false);
  });

  test('a pod that is isolated for egress reaches no Service', async () => {
    await under(['x/none', { podSelector: { matchLabels: { pod: 'a' } }, policyTypes: ['Egress'] }]);
    await reaches(xa, near, false);
    await reaches(xa, far, false);
    await reaches(xb, far, true);
  });
});
