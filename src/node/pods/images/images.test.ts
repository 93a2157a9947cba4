import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../../../base/clock.ts';
import type { Secret } from '../../../kube/types.ts';
import { FakeRuntime } from '../cri/fake-runtime.ts';
import { ImageError, ImageManager } from './image-manager.ts';
import { defaultPullPolicy, parseImageName } from './image-name.ts';
import { findCredentials } from './pull-secrets.ts';

test('image names', () => {
  const digest = `sha256:${'a'.repeat(64)}`;
  const table: readonly (readonly [string, readonly [string, string, string | undefined, string | undefined]])[] = [
    ['nginx', ['docker.io', 'library/nginx', undefined, undefined]],
    ['nginx:1.2', ['docker.io', 'library/nginx', '1.2', undefined]],
    ['curlimages/curl', ['docker.io', 'curlimages/curl', undefined, undefined]],
    ['localhost/a', ['localhost', 'a', undefined, undefined]],
    ['127.0.0.1:5000/a/b:t', ['127.0.0.1:5000', 'a/b', 't', undefined]],
    [`ghcr.io/a/b@${digest}`, ['ghcr.io', 'a/b', undefined, digest]],
    ['docker.io/nginx', ['docker.io', 'library/nginx', undefined, undefined]],
  ];
  for (const [text, [registry, repository, tag, hash]] of table)
    assert.deepEqual(parseImageName(text), { registry, repository, tag, digest: hash }, text);
  for (const text of ['', ':tag', 'a:', 'UPPER', 'a//b', 'a@b', 'a b', '-a', 'a/', '/a', 'a:b:c', `a@sha256:12`])
    assert.throws(() => parseImageName(text), /invalid reference format/, text);
  assert.equal(defaultPullPolicy('nginx'), 'Always');
  assert.equal(defaultPullPolicy('nginx:latest'), 'Always');
  assert.equal(defaultPullPolicy('nginx:1'), 'IfNotPresent');
  assert.equal(defaultPullPolicy(`nginx@${digest}`), 'IfNotPresent');
});

test('pull secrets: the first that names the registry', () => {
  const meta = { name: 's', namespace: 'n', uid: 'u', resourceVersion: '1', creationTimestamp: '' };
  const secret = (key: string, content: string): Secret => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: meta,
    data: { [key]: Buffer.from(content).toString('base64') },
  });
  const hub = JSON.stringify({ auths: { 'https://index.docker.io/v1/': { auth: 'YTpi' } } });
  const old = JSON.stringify({ 'r.example:5000': { username: 'u', password: 'p' } });
  const secrets = [secret('.dockerconfigjson', '{'), secret('.dockerconfigjson', hub), secret('.dockercfg', old)];
  assert.equal(findCredentials(secrets, 'docker.io')?.auth, 'YTpi');
  assert.equal(findCredentials(secrets, 'r.example:5000')?.username, 'u');
  assert.equal(findCredentials(secrets, 'r.example'), undefined);
});

test('policies: where registries can be reached, Always asks them; where not, what is there is used', async () => {
  for (const registries of ['reachable', 'isolated'] as const) {
    const clock = new FakeClock();
    const runtime = new FakeRuntime({ clock });
    runtime.registry.add('busybox');
    const images = new ImageManager({ runtime, clock, registries });
    const request = { pullSecrets: async () => [], signal: new AbortController().signal, onPulling: () => {} };
    const get = (imagePullPolicy: string) =>
      images.ensure({ ...request, container: { name: 'c', image: 'busybox', imagePullPolicy } });
    await get('IfNotPresent');
    await get('Never');
    assert.deepEqual(runtime.calls, []);
    await get('Always');
    assert.deepEqual(runtime.calls, registries === 'reachable' ? ['PullImage busybox'] : []);
  }
});

test('pulls at the same time are one; failures wait longer and longer', async () => {
  const clock = new FakeClock();
  const runtime = new FakeRuntime({ clock });
  const images = new ImageManager({ runtime, clock, registries: 'reachable' });
  let pulling = 0;
  const get = (image: string) =>
    images.ensure({
      container: { name: 'c', image },
      pullSecrets: async () => [],
      signal: new AbortController().signal,
      onPulling: () => pulling++,
    });
  runtime.registry.add('new');
  await Promise.all([get('new'), get('new')]);
  assert.deepEqual(runtime.calls, ['PullImage new']);
  assert.equal(pulling, 2);
  const failure = async () => {
    try {
      await get('none');
    } catch (error) {
      assert.ok(error instanceof ImageError);
      return `${error.reason} ${error.retryMs}`;
    }
  };
  assert.equal(await failure(), 'ErrImagePull 10000');
  await clock.advance(4000);
  assert.equal(await failure(), 'ImagePullBackOff 6000');
  await clock.advance(6000);
  assert.equal(await failure(), 'ErrImagePull 20000');
});
