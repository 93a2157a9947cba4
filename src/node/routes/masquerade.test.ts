import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node } from '../../kube/types.ts';
import { Masquerade, renderMasquerade } from './masquerade.ts';
import { buildModel, type RoutesModel } from './model.ts';

const node = (name: string, podCIDRs: string[], addresses: string[]) =>
  ({
    metadata: { name },
    spec: { podCIDRs },
    status: { addresses: addresses.map((address) => ({ type: 'InternalIP', address })) },
  }) as unknown as Node;
const model = (...nodes: Node[]) => buildModel(nodes, 'a', 'vxlan') as RoutesModel;
const one = node('a', ['10.244.0.0/24', 'fd00:10:244::/64'], ['172.18.0.2', 'fd00:18::2']);
const two = node('b', ['10.244.1.0/24', 'fd00:10:244:1::/64'], ['172.18.0.3', 'fd00:18::3']);
const CLUSTER = ['10.244.0.0/16', 'fd00:10:244::/56'];

test('pods and nodes are spared, all else is masqueraded, for each family', () => {
  const text = renderMasquerade(model(one, two), CLUSTER);
  assert.match(
    text,
    /^ {4}ip saddr 10\.244\.0\.0\/16 ip daddr != \{ 10\.244\.0\.0\/16, 224\.0\.0\.0\/4, 172\.18\.0\.2, 172\.18\.0\.3 \} masquerade/m,
  );
  assert.match(
    text,
    /^ {4}ip6 saddr fd00:10:244::\/56 ip6 daddr != \{ fd00:10:244::\/56, ff00::\/8, fd00:18::2, fd00:18::3 \} masquerade/m,
  );
  assert.equal(text, renderMasquerade(model(two, one), CLUSTER), 'whatever the order of the nodes');
});

test('without pod addresses to know there is no rule', () => {
  assert.doesNotMatch(renderMasquerade(model(one), []), /masquerade fully-random/);
});

test('applied when it changes, and again after a while', () => {
  const runs: string[] = [];
  const masquerade = new Masquerade({ run: (text) => void runs.push(text) }, CLUSTER);
  masquerade.ensure(model(one), 1000);
  masquerade.ensure(model(one), 2000);
  assert.equal(runs.length, 1);
  masquerade.ensure(model(one, two), 3000);
  assert.equal(runs.length, 2);
  masquerade.ensure(model(one, two), 63_000);
  assert.equal(runs.length, 3);
  masquerade.remove();
  assert.match(runs[3]!, /delete table inet podwire-masquerade/);
});
