import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ConfigMap, corev1, Pod, Secret, Service } from '../../../kube/types.ts';
import { buildEnvironment, environmentReferences, isVariableName } from './environment.ts';
import { expand } from './expansion.ts';
import { serviceVariables, visibleServices } from './service-variables.ts';

const meta = (name: string, namespace = 'ns') => ({
  name,
  namespace,
  uid: `uid-${name}`,
  resourceVersion: '1',
  creationTimestamp: '2026-01-01T00:00:00Z',
});

const pod = (container: Partial<corev1.Container>): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { ...meta('web'), labels: { app: 'a', 'x/y': 'z' }, annotations: { note: 'n' } },
  spec: { nodeName: 'node-1', serviceAccountName: 'robot', containers: [{ name: 'c', ...container }] },
});

const service = (name: string, spec: Partial<Service['spec']>, namespace = 'ns'): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: meta(name, namespace),
  spec: { clusterIP: '10.96.0.5', ports: [{ port: 80 }], ...spec },
});

const configMaps: Record<string, ConfigMap> = {
  cm: { apiVersion: 'v1', kind: 'ConfigMap', metadata: meta('cm'), data: { A: 'a', B: 'b', 'no=name': 'x' } },
};
const secrets: Record<string, Secret> = {
  s: { apiVersion: 'v1', kind: 'Secret', metadata: meta('s'), data: { P: Buffer.from('päss').toString('base64') } },
};

function environment(container: Partial<corev1.Container>, services = new Map<string, string>()) {
  const object = pod(container);
  return buildEnvironment({
    pod: object,
    container: object.spec.containers[0]!,
    podIPs: ['10.244.1.2', 'fd00::2'],
    hostIPs: ['172.18.0.2', 'fd00:18::2'],
    allocatable: { cpu: '2', memory: '4Gi' },
    services,
    configMap: (name) => configMaps[name],
    secret: (name) => secrets[name],
  });
}

const values = (...parameters: Parameters<typeof environment>) =>
  Object.fromEntries(environment(...parameters).variables);

test('expansion: the cases of Kubernetes', () => {
  const known: Record<string, string> = { A: 'a', B: 'b', E: '' };
  const table: readonly (readonly [string, string])[] = [
    ['$(A)', 'a'],
    ['$(A)-$(B)', 'a-b'],
    ['$(E)x', 'x'],
    ['$(NONE)', '$(NONE)'],
    ['$$(A)', '$(A)'],
    ['$$$(A)', '$a'],
    ['$$$$(A)', '$$(A)'],
    ['$A', '$A'],
    ['$', '$'],
    ['x$', 'x$'],
    ['$(A', '$(A'],
    ['$(', '$('],
    ['$()', '$()'],
    ['$(A))', 'a)'],
    ['$($(A))', '$($(A))'],
    ['', ''],
    ['foo$(A)bar$', 'fooabar$'],
  ];
  for (const [text, expected] of table)
    assert.equal(
      expand(text, (name) => known[name]),
      expected,
      text,
    );
});

test('expansion: text without a dollar stays, an escaped one comes back', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      assert.equal(
        expand(text.replaceAll('$', '$$$$'), () => 'never'),
        text,
      );
    }),
  );
});

test('env: order, overriding and references to earlier ones', () => {
  assert.deepEqual(
    values({
      envFrom: [{ configMapRef: { name: 'cm' } }, { prefix: 'S_', secretRef: { name: 's' } }],
      env: [
        { name: 'B', value: 'mine' },
        { name: 'C', value: '$(A)-$(B)-$(S_P)-$(LATER)' },
        { name: 'LATER', value: '1' },
      ],
    }),
    { A: 'a', B: 'mine', S_P: 'päss', C: 'a-mine-päss-$(LATER)', LATER: '1' },
  );
});

test('env: keys that are no names are left out and told', () => {
  const { skipped } = environment({ envFrom: [{ configMapRef: { name: 'cm' } }] });
  assert.deepEqual(skipped, [{ source: 'configmap cm', keys: ['no=name'] }]);
  assert.equal(isVariableName('A.b-c'), true);
  assert.equal(isVariableName(''), false);
});

test('env: valueFrom', () => {
  const field = (fieldPath: string): corev1.EnvVarSource => ({ fieldRef: { fieldPath } });
  const table: readonly (readonly [corev1.EnvVarSource, string])[] = [
    [field('metadata.name'), 'web'],
    [field('metadata.namespace'), 'ns'],
    [field('metadata.uid'), 'uid-web'],
    [field("metadata.labels['x/y']"), 'z'],
    [field("metadata.labels['none']"), ''],
    [field("metadata.annotations['note']"), 'n'],
    [field('spec.nodeName'), 'node-1'],
    [field('spec.serviceAccountName'), 'robot'],
    [field('status.podIP'), '10.244.1.2'],
    [field('status.podIPs'), '10.244.1.2,fd00::2'],
    [field('status.hostIP'), '172.18.0.2'],
    [field('status.hostIPs'), '172.18.0.2,fd00:18::2'],
    [{ configMapKeyRef: { name: 'cm', key: 'A' } }, 'a'],
    [{ secretKeyRef: { name: 's', key: 'P' } }, 'päss'],
    [{ resourceFieldRef: { resource: 'limits.cpu' } }, '1'],
    [{ resourceFieldRef: { resource: 'limits.cpu', divisor: '1m' } }, '500'],
    [{ resourceFieldRef: { resource: 'requests.cpu', divisor: '1m' } }, '500'],
    [{ resourceFieldRef: { resource: 'limits.memory', divisor: '1Mi' } }, '4096'],
    [{ resourceFieldRef: { resource: 'requests.memory' } }, '0'],
  ];
  for (const [valueFrom, expected] of table) {
    const result = values({ env: [{ name: 'V', valueFrom }], resources: { limits: { cpu: '500m' } } });
    assert.equal(result['V'], expected, JSON.stringify(valueFrom));
  }
});

test('env: what is missing', () => {
  const from = (valueFrom: corev1.EnvVarSource) => () => values({ env: [{ name: 'V', valueFrom }] });
  assert.throws(from({ configMapKeyRef: { name: 'none', key: 'A' } }), /configmap "none" not found/);
  assert.throws(from({ configMapKeyRef: { name: 'cm', key: 'Z' } }), /couldn't find key Z in ConfigMap ns\/cm/);
  assert.throws(from({ secretKeyRef: { name: 's', key: 'toString' } }), /couldn't find key toString in Secret ns\/s/);
  assert.throws(from({ fieldRef: { fieldPath: 'spec.containers' } }), /unsupported fieldPath/);
  assert.throws(() => values({ envFrom: [{ secretRef: { name: 'none' } }] }), /secret "none" not found/);
  const optional = {
    envFrom: [{ secretRef: { name: 'none', optional: true } }],
    env: [{ name: 'V', valueFrom: { configMapKeyRef: { name: 'none', key: 'A', optional: true } } }],
  };
  assert.deepEqual(values(optional), {});
  assert.deepEqual(environmentReferences({ name: 'c', ...optional }), [
    { kind: 'Secret', name: 'none' },
    { kind: 'ConfigMap', name: 'none' },
  ]);
});

test('service variables: both forms, several ports, IPv6', () => {
  const variables = serviceVariables([
    service('my-svc', {
      ports: [
        { name: 'http', port: 80 },
        { name: 'dns-udp', port: 53, protocol: 'UDP' },
      ],
    }),
    service('six', { clusterIP: 'fd00:10:96::5', ports: [{ port: 8080 }] }),
  ]);
  assert.deepEqual(Object.fromEntries(variables), {
    MY_SVC_SERVICE_HOST: '10.96.0.5',
    MY_SVC_SERVICE_PORT: '80',
    MY_SVC_SERVICE_PORT_HTTP: '80',
    MY_SVC_SERVICE_PORT_DNS_UDP: '53',
    MY_SVC_PORT: 'tcp://10.96.0.5:80',
    MY_SVC_PORT_80_TCP: 'tcp://10.96.0.5:80',
    MY_SVC_PORT_80_TCP_PROTO: 'tcp',
    MY_SVC_PORT_80_TCP_PORT: '80',
    MY_SVC_PORT_80_TCP_ADDR: '10.96.0.5',
    MY_SVC_PORT_53_UDP: 'udp://10.96.0.5:53',
    MY_SVC_PORT_53_UDP_PROTO: 'udp',
    MY_SVC_PORT_53_UDP_PORT: '53',
    MY_SVC_PORT_53_UDP_ADDR: '10.96.0.5',
    SIX_SERVICE_HOST: 'fd00:10:96::5',
    SIX_SERVICE_PORT: '8080',
    SIX_PORT: 'tcp://[fd00:10:96::5]:8080',
    SIX_PORT_8080_TCP: 'tcp://[fd00:10:96::5]:8080',
    SIX_PORT_8080_TCP_PROTO: 'tcp',
    SIX_PORT_8080_TCP_PORT: '8080',
    SIX_PORT_8080_TCP_ADDR: 'fd00:10:96::5',
  });
});

test('service variables: which Services are seen', () => {
  const all = [
    service('b', {}),
    service('a', {}),
    service('other', {}, 'elsewhere'),
    service('headless', { clusterIP: 'None' }),
    service('pending', { clusterIP: '' }),
    service('kubernetes', { clusterIP: '10.96.0.1' }, 'default'),
  ];
  const names = (namespace: string, links: boolean) =>
    visibleServices(all, namespace, links).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
  assert.deepEqual(names('ns', true), ['ns/a', 'ns/b', 'default/kubernetes']);
  assert.deepEqual(names('ns', false), ['default/kubernetes']);
  assert.deepEqual(names('elsewhere', true), ['default/kubernetes', 'elsewhere/other']);
  const own = [...all, service('kubernetes', { clusterIP: '10.96.0.9' })];
  assert.equal(
    visibleServices(own, 'ns', true).find((s) => s.metadata.name === 'kubernetes')?.spec.clusterIP,
    '10.96.0.9',
  );
});

test('env: own variables win over those of Services, and may refer to them', () => {
  const services = serviceVariables([service('db', {})]);
  const result = values(
    {
      env: [
        { name: 'DB_PORT', value: 'mine' },
        { name: 'URL', value: 'http://$(DB_SERVICE_HOST):$(DB_SERVICE_PORT)' },
      ],
    },
    services,
  );
  assert.equal(result['DB_PORT'], 'mine');
  assert.equal(result['URL'], 'http://10.96.0.5:80');
  assert.equal(result['DB_SERVICE_HOST'], '10.96.0.5');
});
