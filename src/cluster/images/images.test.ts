import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkedCommand } from '../../base/command.ts';
import { loadArchive } from './archive.ts';
import { MediaType, OciLayout } from './layout.ts';
import { familiarName, formatReference, parseReference } from './reference.ts';
import { createRegistry } from './registry.ts';
import { RootFilesystem } from './root-filesystem.ts';

const folder = mkdtempSync(join(tmpdir(), 'podwire-images-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
const newLayout = () => new OciLayout(join(folder, `layout-${count++}`));

test('image names are normalised as Docker does', () => {
  const digest = `sha256:${'a'.repeat(64)}`;
  const cases: [string, string, string][] = [
    ['nginx', 'docker.io/library/nginx:latest', 'nginx:latest'],
    ['nginx:1.27', 'docker.io/library/nginx:1.27', 'nginx:1.27'],
    ['curlimages/curl', 'docker.io/curlimages/curl:latest', 'curlimages/curl:latest'],
    ['localhost:5000/a', 'localhost:5000/a:latest', 'localhost:5000/a:latest'],
    ['localhost/a/b:x', 'localhost/a/b:x', 'localhost/a/b:x'],
    ['ghcr.io/a/b/c:v1', 'ghcr.io/a/b/c:v1', 'ghcr.io/a/b/c:v1'],
    [`nginx@${digest}`, `docker.io/library/nginx@${digest}`, `nginx@${digest}`],
    [`nginx:1@${digest}`, `docker.io/library/nginx:1@${digest}`, `nginx:1@${digest}`],
  ];
  for (const [text, full, familiar] of cases) {
    assert.equal(formatReference(parseReference(text)), full);
    assert.equal(familiarName(parseReference(text)), familiar);
  }
  for (const wrong of ['', 'Nginx', 'a b', 'nginx:', 'nginx:a/b:c', '/a', 'a//b', 'nginx@sha256:12', 'a@b@c']) {
    assert.throws(() => parseReference(wrong), TypeError, wrong);
  }
});

test('equal content has equal digests; a name moves to its newer image', async () => {
  const layer = () => new RootFilesystem().file('/bin/tool', '#!/bin/sh\n', 0o755).symlink('/tool', 'bin/tool').toTar();
  const [one, two] = [newLayout(), newLayout()];
  const first = one.addImage('app', { Cmd: ['tool'] }, [await layer()]);
  assert.deepEqual(two.addImage('app', { Cmd: ['tool'] }, [await layer()]), first);
  one.addImage('app', { Cmd: ['other'] }, [await layer()]);
  assert.equal(one.list().length, 1);
  assert.notEqual(one.list()[0]!.manifest.digest, first.digest);
  assert.equal(one.resolve(parseReference(`app@${first.digest}`))?.digest, first.digest, 'still there by its digest');
});

test('the registry serves manifests by tag and digest, blobs, and 404 for the rest', async () => {
  const layout = newLayout();
  const { digest } = layout.addImage('app:1', { Cmd: ['x'] }, [Buffer.from('layer')]);
  layout.addImage('ghcr.io/library/app:1', { Cmd: ['y'] }, [Buffer.from('other')]);
  const server = createRegistry([newLayout(), layout]);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    assert.equal((await fetch(`${base}/v2/`)).status, 200);
    const byTag = await fetch(`${base}/v2/library/app/manifests/1?ns=docker.io`);
    assert.equal(byTag.headers.get('docker-content-digest'), digest);
    assert.equal(byTag.headers.get('content-type'), MediaType.manifest);
    const bytes = Buffer.from(await byTag.arrayBuffer());
    assert.equal(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, digest);
    const other = await fetch(`${base}/v2/library/app/manifests/1?ns=ghcr.io`, { method: 'HEAD' });
    assert.notEqual(other.headers.get('docker-content-digest'), digest, 'registries are told apart');
    const { layers } = JSON.parse(bytes.toString()) as { layers: { digest: string }[] };
    assert.equal(await (await fetch(`${base}/v2/library/app/blobs/${layers[0]!.digest}`)).text(), 'layer');
    for (const path of [
      'library/app/manifests/2',
      'library/none/manifests/1',
      `library/app/blobs/sha256:${'0'.repeat(64)}`,
      'x',
      '../../etc/passwd',
      'a/blobs/sha256:..%2f..%2fx',
    ]) {
      assert.equal((await fetch(`${base}/v2/${path}`)).status, 404, path);
    }
    assert.equal((await fetch(`${base}/v2/library/app/manifests/1?ns=docker.io`, { method: 'PUT' })).status, 405);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test('archives are loaded whole or not at all', async () => {
  const source = newLayout();
  source.addImage('app:1', { Cmd: ['x'] }, [await new RootFilesystem().file('/a', 'b').toTar()]);
  const archive = join(folder, 'app.tar');
  await checkedCommand(['tar', '-C', source.path, '-cf', archive, '.']);
  const target = newLayout();
  assert.deepEqual(await loadArchive(archive, target), ['docker.io/library/app:1']);
  assert.deepEqual(await loadArchive(archive, target, 'renamed'), ['docker.io/library/renamed:latest']);
  assert.equal(target.list().length, 2);

  const [manifest] = source.list();
  const broken = newLayout();
  writeFileSync(source.blobPath(manifest!.manifest.digest), '{"layers":[]}');
  await checkedCommand(['tar', '-C', source.path, '-cf', archive, '.']);
  await assert.rejects(loadArchive(archive, broken), /the archive is damaged/);
  assert.deepEqual(broken.list(), []);
  writeFileSync(archive, 'this is no tar');
  await assert.rejects(loadArchive(archive, broken), /tar cannot read it/);
  await checkedCommand(['tar', '-C', folder, '-cf', archive, '--files-from', '/dev/null']);
  await assert.rejects(loadArchive(archive, broken), /neither index\.json/);
  assert.deepEqual(
    readdirSync(broken.path).filter((name) => name.startsWith('loading-')),
    [],
  );
});

test('a docker archive cannot name files outside itself', async () => {
  const inside = join(folder, 'docker');
  await checkedCommand(['mkdir', '-p', inside]);
  writeFileSync(
    join(inside, 'manifest.json'),
    JSON.stringify([{ Config: '../../etc/hostname', RepoTags: ['x:1'], Layers: [] }]),
  );
  const archive = join(folder, 'evil.tar');
  await checkedCommand(['tar', '-C', inside, '-cf', archive, '.']);
  await assert.rejects(loadArchive(archive, newLayout()), /is damaged|outside itself/);
});
