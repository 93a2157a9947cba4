import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ClusterState, evaluate } from './oracle.ts';
import { namespaceObject, nodeObject, podObject, policyObject } from './testing.ts';

const a = podObject('x/a', { labels: { app: 'a' }, ips: ['10.0.0.1', 'fd00::1'] });
const b = podObject('x/b', { labels: { app: 'b' }, ips: ['10.0.0.2', 'fd00::2'], node: 'n2' });
const host = podObject('x/host', { labels: { app: 'a' }, ips: ['172.18.0.1'], hostNetwork: true });
const gone = podObject('x/gone', { labels: { app: 'a' }, ips: ['10.0.0.9'], phase: 'Failed' });
const policy = policyObject('x/web', {
  podSelector: { matchLabels: { app: 'b' } },
  ingress: [
    { from: [{ podSelector: { matchLabels: { app: 'z' } } }] },
    { from: [{ podSelector: { matchLabels: { app: 'a' } } }], ports: [{ port: 80 }] },
  ],
});
const state: ClusterState = {
  pods: [a, b, host, gone],
  namespaces: [namespaceObject('x')],
  policies: [policy],
  nodes: [nodeObject('n1', ['172.18.0.1']), nodeObject('n2', ['172.18.0.2'])],
};
const ask = (srcIp: string, dstIp: string, dport = 80, more = {}) =>
  evaluate({ srcIp, dstIp, protocol: 'TCP', dport, ...more }, state);

test('the rule that allows is named with its parts', () => {
  const { verdict, reasons } = ask('10.0.0.1', '10.0.0.2');
  assert.equal(verdict, 'allow');
  assert.deepEqual(reasons[0], {
    direction: 'egress',
    verdict: 'allow',
    cause: 'not-isolated',
    pod: 'x/a',
    policies: [],
    rules: [],
  });
  assert.deepEqual(reasons[1], {
    direction: 'ingress',
    verdict: 'allow',
    cause: 'rule',
    pod: 'x/b',
    policies: ['x/web'],
    rules: [
      { policy: 'x/web', rule: 'spec.ingress[1]', peer: 'spec.ingress[1].from[0]', port: 'spec.ingress[1].ports[0]' },
    ],
  });
});

test('a denial names the policies that isolate', () => {
  const { verdict, reasons } = ask('10.0.0.1', '10.0.0.2', 81);
  assert.equal(verdict, 'deny');
  assert.equal(reasons[1].cause, 'no-rule');
  assert.deepEqual(reasons[1].policies, ['x/web']);
});

const causes: [string, string, string, object, string][] = [
  ['a reply', '10.0.0.7', '10.0.0.2', { established: true }, 'established'],
  ['a pod to itself', '10.0.0.2', '10.0.0.2', {}, 'itself'],
  ['the pod’s own node', '172.18.0.2', '10.0.0.2', {}, 'own-node'],
  ['somebody who is no pod', '10.0.0.2', '10.9.9.9', {}, 'not-a-pod'],
];
for (const [name, src, dst, more, cause] of causes) {
  test(`${name} passes: ${cause}`, () => {
    const { verdict, reasons } = ask(src, dst, 80, more);
    assert.equal(verdict, 'allow');
    assert.equal(reasons[1].cause, cause);
  });
}

test('hostNetwork pods and other nodes are no peers of selectors', () => {
  assert.equal(ask('172.18.0.1', '10.0.0.2').verdict, 'deny');
});

test('an address of a pod that has ended is nobody’s', () => {
  assert.equal(ask('10.0.0.9', '10.0.0.2').verdict, 'deny');
});

test('an address that two pods claim allows nothing', () => {
  const twin = podObject('x/twin', { labels: { app: 'a' }, ips: ['10.0.0.1'] });
  const contested = { ...state, pods: [...state.pods, twin] };
  const { verdict, reasons } = evaluate(
    { srcIp: '10.0.0.1', dstIp: '10.0.0.2', protocol: 'TCP', dport: 80 },
    contested,
  );
  assert.equal(verdict, 'deny');
  assert.deepEqual(
    reasons.map(({ cause }) => cause),
    ['contested-address', 'no-rule'],
  );
});

test('addresses may be written in any way', () => {
  assert.equal(ask('fd00:0::1', 'FD00::2').verdict, 'allow');
});
