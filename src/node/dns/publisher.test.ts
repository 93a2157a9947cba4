import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FakeClient } from '../../kube/fake-client.ts';
import { isNotFound } from '../../kube/status.ts';
import { publishDns } from './publisher.ts';

const options = {
  nodeName: 'node-1',
  nodeAddresses: ['172.18.0.2', 'fd00:18::2'],
  dnsAddresses: ['10.96.0.10', 'fd00:10:96::a'],
};

async function clientWithNode(): Promise<FakeClient> {
  const client = new FakeClient();
  await client.create('Node', { metadata: { name: 'node-1' }, spec: {} });
  return client;
}

const service = { namespace: 'kube-system', name: 'kube-dns' };

describe('publishDns', () => {
  test('a Service at the known addresses, each node for its own pods, and a slice per family', async () => {
    const client = await clientWithNode();
    await publishDns({ client, ...options });
    const { spec, metadata } = await client.get('Service', service);
    assert.deepEqual(spec.clusterIPs, options.dnsAddresses);
    assert.deepEqual(spec.ipFamilies, ['IPv4', 'IPv6']);
    assert.equal(spec.internalTrafficPolicy, 'Local');
    assert.equal(metadata.labels?.['k8s-app'], 'kube-dns');
    const node = await client.get('Node', { name: 'node-1' });
    const { items } = await client.list('EndpointSlice', { namespace: 'kube-system' });
    assert.deepEqual(
      items.map((one) => [one.metadata.name, one.addressType, one.endpoints[0]!.addresses, one.endpoints[0]!.nodeName]),
      [
        ['kube-dns-node-1-ipv4', 'IPv4', ['172.18.0.2'], 'node-1'],
        ['kube-dns-node-1-ipv6', 'IPv6', ['fd00:18::2'], 'node-1'],
      ],
    );
    for (const { metadata: meta } of items) {
      assert.equal(meta.labels?.['kubernetes.io/service-name'], 'kube-dns');
      assert.equal(meta.ownerReferences?.[0]?.uid, node.metadata.uid, 'it goes when the node goes');
    }
  });

  test('a second time changes nothing but the address that changed', async () => {
    const client = await clientWithNode();
    await publishDns({ client, ...options });
    await publishDns({ client, ...options, nodeAddresses: ['172.18.0.9', 'fd00:18::2'] });
    const { items } = await client.list('EndpointSlice', { namespace: 'kube-system' });
    assert.deepEqual(
      items.map((one) => one.endpoints[0]!.addresses[0]),
      ['172.18.0.9', 'fd00:18::2'],
    );
  });

  test('a Service that is there is left alone', async () => {
    const client = await clientWithNode();
    await client.create('Service', { metadata: { ...service }, spec: { clusterIP: '10.96.0.77' } });
    await publishDns({ client, ...options });
    assert.equal((await client.get('Service', service)).spec.clusterIP, '10.96.0.77');
  });

  test('nodes may race for the Service', async () => {
    const client = await clientWithNode();
    await client.create('Node', { metadata: { name: 'node-2' }, spec: {} });
    await Promise.all([
      publishDns({ client, ...options }),
      publishDns({ client, ...options, nodeName: 'node-2', nodeAddresses: ['172.18.0.3'] }),
    ]);
    assert.equal((await client.list('EndpointSlice')).items.length, 3);
  });

  test('without the Node object it fails, and can be tried again', async () => {
    const client = new FakeClient();
    await assert.rejects(publishDns({ client, ...options }), isNotFound);
    await client.create('Node', { metadata: { name: 'node-1' }, spec: {} });
    await publishDns({ client, ...options });
    assert.equal((await client.list('EndpointSlice')).items.length, 2);
  });
});
