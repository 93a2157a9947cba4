/** Other modes of the proxy in a whole cluster: what real pods meet, and that a kernel without a mode is told at once. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { detectFeatures } from '../../src/linux/features.ts';
import {
  addressOf,
  allReady,
  applyAll,
  assertNothingLeft,
  clusterName,
  curl,
  eventually,
  hostPort,
  podwire,
  runIn,
  service,
  sleeper,
  startCluster,
  url,
  whoAmI,
} from './fixture.ts';

describe('podwire up --proxy iptables', async () => {
  const cluster = await startCluster('proxy-iptables', { nodes: 2, proxy: 'iptables' });
  const [node1, node2] = cluster.nodes as [string, string];
  await applyAll(cluster, [
    service('web', { type: 'NodePort', ports: [{ name: 'http', port: 8000, targetPort: 80 }] }),
    service('sticky', { selector: { app: 'web' }, sessionAffinity: 'ClientIP' }),
    service('empty', {}),
    whoAmI('web-1', { node: node1, labels: { app: 'web' } }),
    whoAmI('web-2', { node: node2, labels: { app: 'web' } }),
    sleeper('client', { node: node1 }),
  ]);
  const [, , client] = await allReady(cluster, ['web-1', 'web-2', 'client']);
  const specOf = async (name: string) => (await cluster.client.get('Service', { namespace: 'default', name })).spec;
  const web = await specOf('web');
  const address = url(web.clusterIP!, 8000);

  /** The different answers of some requests in a row. */
  async function answers(target: string, requests = 12): Promise<string[]> {
    const script = `for i in $(seq ${requests}); do curl -sS --max-time 3 ${target} || echo FAILED; done | sort -u`;
    return (await cluster.exec('client', script)).stdout.trim().split('\n');
  }

  test('the rules are chains of iptables, and none of nftables', async () => {
    await eventually(
      'the chains of the Service',
      async () => (await runIn(cluster, node1, ['sh', '-c', 'iptables-legacy-save; iptables-nft-save'])).stdout,
      (saved) => /-A KUBE-SERVICES -d \S+ -p tcp .*default\/web:http.* -j KUBE-SVC-/.test(saved),
    );
    const tables = await runIn(cluster, node1, ['nft', 'list', 'tables']);
    assert.doesNotMatch(tables.stdout, /podwire-services/);
  });

  test('a ClusterIP and a name reach every pod, with the client’s address kept', async () => {
    const from = addressOf(client!);
    await eventually(
      'both pods answer',
      () => answers(address),
      (met) => met.join() === `${from} web-1,${from} web-2`,
    );
    assert.match(await curl(cluster, 'client', 'http://web:8000/'), /web-[12]$/);
  });

  test('a NodePort answers from outside on every node', async () => {
    for (const node of cluster.description.nodes) {
      const target = `http://${hostPort(node.addresses[0]!, web.ports![0]!.nodePort!)}/`;
      const result = await runIn(cluster, 'outside', ['curl', '-sS', '--max-time', '5', target]);
      assert.match(result.stdout, /web-[12]\n$/, result.stderr);
    }
  });

  test('session affinity keeps a client with its pod', async () => {
    const { clusterIP } = await specOf('sticky');
    assert.equal((await answers(url(clusterIP!))).length, 1);
  });

  test('a Service without endpoints and an unused port are refused at once', async () => {
    const { clusterIP } = await specOf('empty');
    for (const target of [`${clusterIP}:80`, `${web.clusterIP}:81`])
      assert.equal((await cluster.connect('client', target)).outcome, 'refused', target);
  });

  test('requests go on while pods come and go', async () => {
    const script = `for i in $(seq 80); do curl -sS --max-time 3 ${address} || echo FAILED; done`;
    const loader = cluster.exec('client', script, { timeoutMs: 60_000 });
    await applyAll(cluster, [whoAmI('web-3', { node: node2, labels: { app: 'web' } })]);
    await allReady(cluster, ['web-3']);
    await cluster.client.delete('Pod', { namespace: 'default', name: 'web-1' });
    const lines = (await loader).stdout.trim().split('\n');
    assert.equal(lines.length, 80);
    assert.deepEqual(
      lines.filter((line) => line.includes('FAILED')),
      [],
    );
    await eventually(
      'web-3 serves in the place of web-1',
      () => answers(address),
      (met) => met.map((line) => line.split(' ')[1]).join() === 'web-2,web-3',
    );
  });
});

const ipvs = detectFeatures().ip_vs.present;
const skip = ipvs ? 'this kernel has IPVS: test/otherkernel tests the mode' : false;

test('a kernel without IPVS refuses the mode in one line, and nothing is left', { skip }, async () => {
  const name = clusterName('proxy-ipvs');
  const { exitCode, stderr } = await podwire(['up', '--name', name, '--proxy', 'ipvs', '--no-merge']);
  assert.equal(exitCode, 3);
  assert.match(stderr, /this kernel has no IPVS \(ENOENT\)/);
  assert.match(stderr, /podwire up --proxy nftables/);
  assert.equal(stderr.trim().split('\n').length <= 2, true, stderr);
  assertNothingLeft(name);
});

test('NodePorts at localhost are refused in one line in a mode that cannot serve them', async () => {
  const name = clusterName('proxy-localhost');
  const choice = ['--proxy', 'ipvs', '--nodeport-addresses', 'primary', '--nodeport-addresses', 'localhost'];
  const { exitCode, stderr } = await podwire(['up', '--name', name, ...choice, '--no-merge']);
  assert.equal(exitCode, 2);
  assert.match(stderr.trim(), /^[^\n]*the proxy mode ipvs serves none at localhost$/);
  assertNothingLeft(name);
});
