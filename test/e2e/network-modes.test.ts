/** The other shapes of the network: routes instead of VXLAN, both address families, IPv6 alone. A small cluster for each. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Family } from '../../src/base/ip.ts';
import { Cluster, type ClusterOptions } from '../../src/cluster/cluster.ts';
import type { Pod, Service } from '../../src/kube/types.ts';
import {
  addressOf,
  allReady,
  applyAll,
  assertNothingLeft,
  clusterName,
  curl,
  eventually,
  hostPort,
  removeLeftovers,
  runIn,
  service,
  sleeper,
  url,
  whoAmI,
} from './fixture.ts';

after(removeLeftovers);

const shapes: Record<string, { options: ClusterOptions; families: readonly Family[]; mtu: number }> = {
  'host-gw': { options: { podNetwork: 'host-gw' }, families: [4], mtu: 1500 },
  'dual stack': { options: { ipFamily: 'dual' }, families: [4, 6], mtu: 1450 },
  // 20 bytes more of outer header
  'IPv6 alone': { options: { ipFamily: 'ipv6' }, families: [6], mtu: 1430 },
  'IPv6 alone, host-gw': { options: { ipFamily: 'ipv6', podNetwork: 'host-gw' }, families: [6], mtu: 1500 },
};

const OPEN = { policyTypes: ['Ingress'], podSelector: { matchLabels: { app: 'web' } } };
const allowFrom = (...peers: object[]) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'web' },
  spec: { ...OPEN, ingress: [{ from: peers }] },
});

for (const [shape, { options, families, mtu }] of Object.entries(shapes)) {
  describe(shape, () => {
    const name = clusterName(`modes${Object.keys(shapes).indexOf(shape)}`);
    let cluster: Cluster;
    let web: Pod;
    let near: Pod;
    let far: Pod;
    let spec: Service['spec'];
    before(async () => {
      cluster = await Cluster.start({ ...options, name, nodes: 2 });
      await applyAll(cluster, [
        whoAmI('web', { node: 'node-1', labels: { app: 'web' } }),
        sleeper('near', { node: 'node-1' }),
        sleeper('far', { node: 'node-2' }),
        service('web', { type: 'NodePort', ipFamilyPolicy: families.length > 1 ? 'RequireDualStack' : 'SingleStack' }),
      ]);
      [web, near, far] = (await allReady(cluster, ['web', 'near', 'far'])) as [Pod, Pod, Pod];
      spec = (await cluster.client.get('Service', { namespace: 'default', name: 'web' })).spec;
    });
    after(async () => {
      await cluster.stop();
      assertNothingLeft(name);
    });

    test('MTU', async () => {
      assert.match((await cluster.exec('near', 'ip link show eth0')).stdout, new RegExp(`mtu ${mtu} `));
    });

    for (const [i, family] of families.entries()) {
      let target: string;
      let clusterIp: string;
      before(() => {
        target = addressOf(web, family);
        clusterIp = spec.clusterIPs![i]!;
      });

      test(`IPv${family}: pods reach each other with their own addresses`, async () => {
        assert.equal(await curl(cluster, 'near', url(target)), `${addressOf(near, family)} web`);
        assert.equal(await curl(cluster, 'far', url(target)), `${addressOf(far, family)} web`);
        assert.match(await curl(cluster, 'web', url(target)), / web$/);
        const made = await cluster.exec(
          'web',
          'dd if=/dev/urandom of=/usr/share/nginx/html/big bs=1M count=4 2>/dev/null; sha256sum < /usr/share/nginx/html/big',
        );
        const got = await cluster.exec('far', `curl -sS --max-time 20 '${url(target)}big' | sha256sum`);
        assert.equal(got.stdout, made.stdout);
      });

      test(`IPv${family}: nodes and pods reach each other`, async () => {
        for (const node of cluster.nodes) {
          assert.match((await runIn(cluster, node, ['curl', '-sS', '--max-time', '5', url(target)])).stdout, / web\n/);
        }
        for (const { addresses } of cluster.description.nodes) {
          assert.equal((await cluster.connect('far', hostPort(addresses[i]!, 10250))).outcome, 'connected');
        }
      });

      test(`IPv${family}: the Service by ClusterIP from pods and nodes, by NodePort from outside`, async () => {
        for (const from of ['near', 'far', 'web']) assert.match(await curl(cluster, from, url(clusterIp)), / web$/);
        for (const node of cluster.nodes) {
          assert.equal((await cluster.connect({ node }, hostPort(clusterIp))).outcome, 'connected');
        }
        for (const { addresses } of cluster.description.nodes) {
          const through = url(addresses[i]!, spec.ports![0]!.nodePort!);
          const { stdout, stderr } = await runIn(cluster, 'outside', ['curl', '-sS', '--max-time', '5', through]);
          assert.match(stdout, / web\n/, `${through}: ${stderr}`);
        }
      });

      test(`IPv${family}: the name of the Service`, async () => {
        const got = await curl(cluster, 'far', 'http://web.default.svc.cluster.local', [`-${family}`]);
        assert.match(got, / web$/);
        assert.equal(got.split(' ')[0], addressOf(far, family));
        const looked = await cluster.exec('far', 'nslookup web.default.svc.cluster.local');
        assert.ok(looked.stdout.includes(clusterIp), looked.stdout);
      });
    }

    test('NetworkPolicy holds for every family', async () => {
      const outcome = (from: string, family: Family) =>
        cluster.connect(from, hostPort(addressOf(web, family)), { timeoutMs: 250 }).then((one) => one.outcome);
      const outcomes = async () =>
        (await Promise.all(['near', 'far'].flatMap((from) => families.map((family) => outcome(from, family))))).join(
          ' ',
        );
      const each = (nearOne: string, farOne: string) =>
        [nearOne, farOne].flatMap((one) => families.map(() => one)).join(' ');
      const become = (what: string, expected: string) => eventually(what, outcomes, (got) => got === expected, 5000);
      assert.equal(await outcomes(), each('connected', 'connected'));
      await applyAll(cluster, [{ ...allowFrom(), spec: OPEN }]);
      await become('denied', each('timeout', 'timeout'));
      await applyAll(cluster, [allowFrom({ podSelector: { matchLabels: { name: 'far' } } })]);
      await become('far is allowed by its label', each('timeout', 'connected'));
      const exact = families.map((family) => ({
        ipBlock: { cidr: `${addressOf(near, family)}/${family === 4 ? 32 : 128}` },
      }));
      await applyAll(cluster, [allowFrom(...exact)]);
      await become('near is allowed by its addresses', each('connected', 'timeout'));
      await cluster.client.delete('NetworkPolicy', { namespace: 'default', name: 'web' });
      await become('open again', each('connected', 'connected'));
    });
  });
}
