import assert from 'node:assert/strict';
import { test } from 'node:test';
import { draft, eventually, fakeContext, namespace, withSignal } from '../fixtures.ts';
import { NamespaceDefaults } from './controller.ts';

test('every namespace has its account and the CA, and gets them back', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Namespace', draft(namespace('before')));
    await new NamespaceDefaults(context, { rootCa: 'PEM' }).start(signal);
    await client.create('Namespace', draft(namespace('after')));
    const at = (name: string, ns: string) => ({ name, namespace: ns });
    for (const ns of ['before', 'after']) {
      await eventually('account', () => client.get('ServiceAccount', at('default', ns)));
      const map = await eventually('CA', () => client.get('ConfigMap', at('kube-root-ca.crt', ns)));
      assert.deepEqual(map.data, { 'ca.crt': 'PEM' });
    }
    await client.delete('ServiceAccount', at('default', 'after'));
    await client.delete('ConfigMap', at('kube-root-ca.crt', 'after'));
    await client.patch('ConfigMap', at('kube-root-ca.crt', 'before'), { data: { 'ca.crt': 'forged', more: 'x' } });
    await eventually('account', () => client.get('ServiceAccount', at('default', 'after')));
    await eventually('CA', () => client.get('ConfigMap', at('kube-root-ca.crt', 'after')));
    await eventually('mended', async () => {
      const { data } = await client.get('ConfigMap', at('kube-root-ca.crt', 'before'));
      return JSON.stringify(data) === '{"ca.crt":"PEM"}';
    });
  }));
