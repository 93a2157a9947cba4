import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parse } from 'yaml';
import {
  defaultKubeconfigPath,
  mergeIntoKubeconfig,
  readKubeconfig,
  removeFromKubeconfig,
  renderKubeconfig,
} from './kubeconfig.ts';

const folder = mkdtempSync(join(tmpdir(), 'podwire-kubeconfig-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const access = { server: 'https://127.0.0.1:6443', ca: 'CA\n', cert: 'CERT\n', key: 'KEY\n' };

test('merging keeps what others wrote, and removing takes only its own away', () => {
  const file = join(folder, 'sub', 'config');
  mergeIntoKubeconfig(file, 'podwire-a', access);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.deepEqual({ ...readKubeconfig(file), token: undefined }, { ...access, token: undefined });
  const other = parse(readFileSync(file, 'utf8'));
  other.contexts.push({ name: 'mine', context: { cluster: 'c', user: 'u', namespace: 'n' } });
  other.preferences = { colors: true };
  writeFileSync(file, JSON.stringify(other));
  mergeIntoKubeconfig(file, 'podwire-b', { ...access, server: 'https://127.0.0.1:7000' });
  mergeIntoKubeconfig(file, 'podwire-b', { ...access, server: 'https://127.0.0.1:7001' });
  assert.equal(readKubeconfig(file).server, 'https://127.0.0.1:7001');
  assert.equal(readKubeconfig(file, 'podwire-a').server, access.server);
  removeFromKubeconfig(file, 'podwire-b');
  removeFromKubeconfig(file, 'podwire-b');
  const left = parse(readFileSync(file, 'utf8'));
  assert.deepEqual(
    left.contexts.map((one: { name: string }) => one.name),
    ['podwire-a', 'mine'],
  );
  assert.equal(left['current-context'], '');
  assert.deepEqual(left.preferences, { colors: true });
  assert.throws(() => readKubeconfig(file), /has no context ""/);
});

test('files beside the kubeconfig, tokens, and broken files', () => {
  const file = join(folder, 'files');
  writeFileSync(join(folder, 'ca.pem'), 'CA2');
  writeFileSync(
    file,
    'current-context: x\nclusters: [{name: c, cluster: {server: "https://h", certificate-authority: ca.pem}}]\nusers: [{name: u, user: {token: abc}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n',
  );
  assert.deepEqual(readKubeconfig(file), {
    server: 'https://h',
    ca: 'CA2',
    cert: undefined,
    key: undefined,
    token: 'abc',
  });
  writeFileSync(file, 'a: [b');
  assert.throws(() => readKubeconfig(file), /cannot read the kubeconfig/);
  assert.match(renderKubeconfig('n', access), /current-context: n/);
  assert.equal(defaultKubeconfigPath({ KUBECONFIG: '/a:/b', HOME: '/h' }), '/a');
  assert.equal(defaultKubeconfigPath({ HOME: '/h' }), '/h/.kube/config');
});
