import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ipFromBytes } from '../../base/ip.ts';
import { pod, service, slice } from './fixtures.ts';
import {
  clusterAddresses,
  dashed,
  endpointAddresses,
  kindOf,
  podAddresses,
  sliceAddresses,
  undashed,
} from './model.ts';

describe('addresses as labels', () => {
  test('as Kubernetes writes them', () => {
    assert.equal(dashed('10.244.1.5'), '10-244-1-5');
    assert.equal(dashed('fd00:10:244::5'), 'fd00-10-244--5');
    assert.equal(dashed('::1'), '0--1', 'a label must not begin with a dash');
    assert.equal(dashed('fd00::'), 'fd00--0', 'nor end with one');
  });

  test('there and back', () => {
    const bytes = fc.constantFrom(4, 16).chain((length) => fc.uint8Array({ minLength: length, maxLength: length }));
    fc.assert(fc.property(bytes, (raw) => assert.equal(undashed(dashed(ipFromBytes(raw))), ipFromBytes(raw))));
  });

  test('other labels stand for nothing', () => {
    for (const label of ['web', '10-244-1', '10-244-1-256', '1-2-3-4-5', 'fd00', '']) {
      assert.equal(undashed(label), undefined, label);
    }
  });
});

test('kinds of Services', () => {
  assert.equal(kindOf(service('a/b', { clusterIP: '10.96.0.1' })), 'cluster-ip');
  assert.equal(kindOf(service('a/b', { clusterIP: '10.96.0.1', type: 'LoadBalancer' })), 'cluster-ip');
  assert.equal(kindOf(service('a/b', { clusterIP: 'None' })), 'headless');
  assert.equal(kindOf(service('a/b', { type: 'ExternalName', externalName: 'x.y' })), 'external-name');
});

test('cluster addresses are canonical and of both families', () => {
  assert.deepEqual(
    clusterAddresses(service('a/b', { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1', 'FD00:0::1'] })),
    ['10.96.0.1', 'fd00::1'],
  );
  assert.deepEqual(clusterAddresses(service('a/b', { clusterIP: '10.96.0.1' })), ['10.96.0.1']);
  assert.deepEqual(clusterAddresses(service('a/b', { clusterIP: 'None', clusterIPs: ['None'] })), []);
  assert.deepEqual(clusterAddresses(service('a/b', {})), []);
});

describe('endpoints', () => {
  const ports = [{ name: 'http', protocol: 'TCP', port: 80 }];

  test('ready ones only; without the condition an endpoint is ready', () => {
    const endpoints = [
      { addresses: ['10.0.0.1'], conditions: { ready: true } },
      { addresses: ['10.0.0.2'], conditions: { ready: false, serving: true, terminating: true } },
      { addresses: ['10.0.0.3'] },
    ];
    assert.deepEqual(
      endpointAddresses([slice('a/b', { endpoints, ports })]).map(({ address }) => address),
      ['10.0.0.1', '10.0.0.3'],
    );
  });

  test('one that stands in two slices is one, with the ports of both and the name that one of them knows', () => {
    const found = endpointAddresses([
      slice('a/b', { name: 'b-1', endpoints: [{ addresses: ['10.0.0.1'] }], ports }),
      slice('a/b', {
        name: 'b-2',
        endpoints: [{ addresses: ['10.0.0.1'], hostname: 'web-0' }],
        ports: [...ports, { name: 'metrics', protocol: 'TCP', port: 90 }],
      }),
    ]);
    assert.equal(found.length, 1);
    assert.equal(found[0]!.hostname, 'web-0');
    assert.deepEqual(
      found[0]!.ports.map(({ port }) => port),
      [80, 90],
    );
  });

  test('names and "all ports" of slices give no addresses and no ports', () => {
    assert.deepEqual(
      endpointAddresses([slice('a/b', { addressType: 'FQDN', endpoints: [{ addresses: ['a.example'] }], ports })]),
      [],
    );
    const [one] = endpointAddresses([slice('a/b', { endpoints: [{ addresses: ['10.0.0.1'] }], ports: [{}] })]);
    assert.deepEqual(one!.ports, []);
  });

  test('addresses of a slice are canonical, each once, ready or not', () => {
    const endpoints = [
      { addresses: ['FD00::0:1'], conditions: { ready: false } },
      { addresses: ['fd00::1', 'fd00::2'] },
    ];
    assert.deepEqual(sliceAddresses(slice('a/b', { addressType: 'IPv6', endpoints })), ['fd00::1', 'fd00::2']);
  });
});

test('a pod has its addresses until it has ended', () => {
  assert.deepEqual(podAddresses(pod('a/b', ['10.0.0.1', 'FD00::1'])), ['10.0.0.1', 'fd00::1']);
  assert.deepEqual(podAddresses(pod('a/b', ['10.0.0.1'], 'Succeeded')), []);
  assert.deepEqual(podAddresses(pod('a/b', ['10.0.0.1'], 'Failed')), []);
  assert.deepEqual(podAddresses(pod('a/b', [], 'Pending')), []);
});
