import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pod, running, service } from '../fixtures.ts';
import { desiredEndpoints } from './endpoints-object.ts';

const web = service('web', {
  selector: { app: 'web' },
  ipFamilies: ['IPv4'],
  ports: [
    { name: 'http', port: 80, targetPort: 'http', protocol: 'TCP' },
    { name: 'dns', port: 53, targetPort: 5353, protocol: 'UDP' },
  ],
});

const webPod = (index: number, ready = true, port = 8080) =>
  pod(`p${index}`, {
    spec: {
      nodeName: 'n1',
      containers: [{ name: 'main', image: 'x', ports: [{ name: 'http', containerPort: port }] }],
    },
    status: running([`10.0.${index >> 8}.${index & 255}`, 'fd00::1'], ready),
    metadata: { uid: `uid-${index}` },
  });

test('addresses with equal ports share a subset; ready and not ready apart', () => {
  const { subsets } = desiredEndpoints(web, [webPod(2), webPod(1), webPod(3, false), webPod(4, true, 9090)]);
  const ports = (port: number) => [
    { name: 'dns', port: 5353, protocol: 'UDP' },
    { name: 'http', port, protocol: 'TCP' },
  ];
  const view = subsets!.map((subset) => ({
    ready: subset.addresses?.map(({ ip }) => ip),
    notReady: subset.notReadyAddresses?.map(({ ip }) => ip),
    ports: subset.ports,
  }));
  assert.deepEqual(view, [
    { ready: ['10.0.0.1', '10.0.0.2'], notReady: ['10.0.0.3'], ports: ports(8080) },
    { ready: ['10.0.0.4'], notReady: undefined, ports: ports(9090) },
  ]);
  assert.deepEqual(subsets![0]!.addresses![0], {
    ip: '10.0.0.1',
    nodeName: 'n1',
    targetRef: { kind: 'Pod', namespace: 'default', name: 'p1', uid: 'uid-1' },
  });
});

test('a pod that lacks a named port is in the others only; the order of pods does not matter', () => {
  const bare = pod('bare', { status: running(['10.0.0.9']), metadata: { uid: 'b' } });
  const one = desiredEndpoints(web, [bare, webPod(1)]);
  assert.deepEqual(one, desiredEndpoints(web, [webPod(1), bare]));
  assert.equal(one.subsets!.length, 2);
});

test('terminating pods are left out, unless all are to be published', () => {
  const going = { ...webPod(1), metadata: { ...webPod(1).metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } };
  assert.deepEqual(desiredEndpoints(web, [going]).subsets, []);
  const publish = { ...web, spec: { ...web.spec, publishNotReadyAddresses: true } };
  assert.equal(desiredEndpoints(publish, [going, webPod(2, false)]).subsets![0]!.addresses!.length, 2);
});

test('at most 1000 addresses, ready ones first, and it says so', () => {
  const pods = Array.from({ length: 1100 }, (_, i) => webPod(i, i >= 150));
  const endpoints = desiredEndpoints(web, pods);
  assert.equal(endpoints.metadata.annotations!['endpoints.kubernetes.io/over-capacity'], 'truncated');
  assert.equal(endpoints.subsets![0]!.addresses!.length, 950);
  assert.equal(endpoints.subsets![0]!.notReadyAddresses!.length, 50);
});
