/** `podwire image load`: archives of both kinds become images that pods run; damaged ones leave nothing behind. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { checkedCommand } from '../../src/base/command.ts';
import { type Descriptor, OciLayout } from '../../src/cluster/images/layout.ts';
import { createRegistry } from '../../src/cluster/images/registry.ts';
import { findPrepared } from '../../src/cluster/setup.ts';
import { applyAll, pod, podwire, startCluster } from './fixture.ts';

const cluster = await startCluster('image', { nodes: 2 });
const folder = mkdtempSync(join(tmpdir(), 'podwire-image-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** The starter image of busybox: its configuration and layers. */
const starter = new OciLayout(findPrepared()!.images);
const busybox = starter.list().find((image) => image.reference.repository.includes('busybox'))!;
const blob = (descriptor: Descriptor) => readFileSync(starter.blobPath(descriptor.digest));
const manifest = JSON.parse(blob(busybox.manifest).toString()) as { config: Descriptor; layers: Descriptor[] };
const config = JSON.parse(blob(manifest.config).toString());
const layers = manifest.layers.map((layer) => ({ ...layer, bytes: blob(layer) }));
const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

let made = 0;
/** A tar of the files. */
async function archive(files: Record<string, string | Uint8Array>): Promise<string> {
  const content = join(folder, `content-${++made}`);
  for (const [path, bytes] of Object.entries(files)) {
    mkdirSync(join(content, path, '..'), { recursive: true });
    writeFileSync(join(content, path), bytes);
  }
  const file = join(folder, `image-${made}.tar`);
  await checkedCommand(['tar', '-C', content, '-cf', file, '.']);
  return file;
}

/** An image that says its name when it runs: the configuration is what tells images apart here. */
const speaking = (text: string) =>
  Buffer.from(JSON.stringify({ ...config, config: { ...config.config, Cmd: ['echo', text] } }));

function dockerFiles(text: string, tags: string[] | null): Record<string, string | Uint8Array> {
  const bytes = speaking(text);
  const paths = layers.map((_, i) => `layer-${i}/layer.tar`);
  return {
    [`${sha(bytes)}.json`]: bytes,
    ...Object.fromEntries(layers.map((layer, i) => [paths[i]!, layer.bytes])),
    'manifest.json': JSON.stringify([{ Config: `${sha(bytes)}.json`, RepoTags: tags, Layers: paths }]),
  };
}

function ociFiles(text: string, annotations: Record<string, string>): Record<string, string | Uint8Array> {
  const bytes = speaking(text);
  const zipped = layers.map((layer) => gzipSync(layer.bytes, { level: 1 }));
  const describe = (mediaType: string, content: Uint8Array) => ({
    mediaType,
    digest: `sha256:${sha(content)}`,
    size: content.length,
  });
  const document = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: describe('application/vnd.oci.image.config.v1+json', bytes),
      layers: zipped.map((layer) => describe('application/vnd.oci.image.layer.v1.tar+gzip', layer)),
    }),
  );
  const index = {
    schemaVersion: 2,
    manifests: [{ ...describe('application/vnd.oci.image.manifest.v1+json', document), annotations }],
  };
  return {
    'oci-layout': '{"imageLayoutVersion":"1.0.0"}',
    'index.json': JSON.stringify(index),
    ...Object.fromEntries([bytes, document, ...zipped].map((content) => [`blobs/sha256/${sha(content)}`, content])),
  };
}

const load = (file: string, ...more: string[]) => podwire(['image', 'load', '--name', cluster.name, file, ...more]);
const listed = async () =>
  JSON.parse((await podwire(['image', 'list', '--name', cluster.name, '-o', 'json'])).stdout).map(
    (one: { image: string }) => one.image,
  ) as string[];

/** Runs the image once on each node; what it printed. */
async function runs(name: string, image: string): Promise<void> {
  const names = cluster.nodes.map((node) => `${name}-${node}`);
  await applyAll(
    cluster,
    cluster.nodes.map((node) =>
      pod(`${name}-${node}`, { node, container: { image }, spec: { restartPolicy: 'Never' } }),
    ),
  );
  for (const one of names) {
    await cluster.waitFor('Pod', { namespace: 'default', name: one }, (found) => found.status?.phase === 'Succeeded');
    assert.equal(await cluster.logs(one), `I am ${name}\n`);
  }
}

describe('an archive of', () => {
  test('docker save, with its tag', async () => {
    const result = await load(await archive(dockerFiles('I am docker', ['my-app:1.0'])));
    assert.equal(result.exitCode, 0, result.stderr);
    assert.match(result.stderr, /loaded docker\.io\/library\/my-app:1\.0/);
    assert.ok((await listed()).includes('my-app:1.0'));
    await runs('docker', 'my-app:1.0');
  });
  test('OCI, with compressed layers and a registry in its name', async () => {
    const result = await load(
      await archive(ociFiles('I am oci', { 'org.opencontainers.image.ref.name': 'ghcr.io/someone/app:v2' })),
    );
    assert.equal(result.exitCode, 0, result.stderr);
    await runs('oci', 'ghcr.io/someone/app:v2');
  });
  test('OCI with a tag alone, named with --as; a second load of the name replaces the first', async () => {
    const nameless = await archive(ociFiles('I am nobody', { 'org.opencontainers.image.ref.name': 'latest' }));
    const refused = await load(nameless);
    assert.equal(refused.exitCode, 1);
    assert.match(refused.stderr, /no image name in it[\s\S]*--as NAME/);
    assert.equal((await load(nameless, '--as', 'named:1')).exitCode, 0);
    const better = await archive(ociFiles('I am named', {}));
    assert.equal((await load(better, '--as', 'named:1')).exitCode, 0);
    await runs('named', 'named:1');
    assert.equal((await listed()).filter((one) => one === 'named:1').length, 1);
  });
  test('two images at once', async () => {
    const one = dockerFiles('I am one', ['both/one:1']);
    const two = dockerFiles('I am two', ['both/two:1', 'both/two:latest']);
    const both = [one, two].flatMap((files) => JSON.parse(files['manifest.json'] as string));
    const result = await load(await archive({ ...one, ...two, 'manifest.json': JSON.stringify(both) }));
    assert.equal(result.exitCode, 0, result.stderr);
    await runs('two', 'both/two:1');
  });
});

describe('refused in one line, with nothing half loaded:', () => {
  const good = () => ociFiles('I am broken', { 'io.containerd.image.name': 'broken:1' });
  const layerOf = (files: Record<string, unknown>) =>
    Object.keys(files)
      .filter((path) => path.startsWith('blobs/'))
      .sort((a, b) => Buffer.from(files[b] as Buffer).length - Buffer.from(files[a] as Buffer).length)[0]!;
  const cases: Record<string, () => Promise<string>> = {
    'no archive at all': async () => {
      const file = join(folder, 'text.tar');
      writeFileSync(file, 'this is no archive\n');
      return file;
    },
    'an empty file': async () => {
      const file = join(folder, 'empty.tar');
      writeFileSync(file, '');
      return file;
    },
    'cut off in the middle': async () => {
      const file = await archive(good());
      truncateSync(file, Math.floor(statSync(file).size / 2));
      return file;
    },
    'a tar of something else': () => archive({ 'readme.txt': 'hello' }),
    'a layer with other content': async () => {
      const files = good();
      const path = layerOf(files);
      return archive({ ...files, [path]: Buffer.concat([files[path] as Buffer, Buffer.from('x')]) });
    },
    'a layer that is missing': async () => {
      const files = good();
      delete files[layerOf(files)];
      return archive(files);
    },
    'an index that is no JSON': () => archive({ ...good(), 'index.json': '{"manifests": [' }),
    'an index of the wrong form': () => archive({ ...good(), 'index.json': '{"manifests": "none"}' }),
    'a manifest.json that is no JSON': () => archive({ ...dockerFiles('x', ['broken:1']), 'manifest.json': 'no' }),
    'a manifest.json of the wrong form': () => archive({ ...dockerFiles('x', ['broken:1']), 'manifest.json': '{}' }),
    'a manifest.json that names files outside': () =>
      archive({
        ...dockerFiles('x', ['broken:1']),
        'manifest.json': JSON.stringify([{ Config: '../../../etc/passwd', RepoTags: ['broken:1'], Layers: [] }]),
      }),
    'a docker archive without its layer': async () => {
      const files = dockerFiles('x', ['broken:1']);
      delete files['layer-0/layer.tar'];
      return archive(files);
    },
    'a name that is none': () => archive(dockerFiles('x', ['Not A Name!'])),
  };
  for (const [what, make] of Object.entries(cases)) {
    test(what, async () => {
      const before = await listed();
      const file = await make();
      const result = await load(file);
      assert.notEqual(result.exitCode, 0);
      assert.equal(result.stderr.match(/^podwire: .+$/gm)?.length, 1, result.stderr);
      assert.doesNotMatch(
        result.stderr,
        /TypeError|Cannot read prop|is not (a function|iterable)|ENOENT|Unexpected (token|end)|\n\s+at /,
        result.stderr,
      );
      assert.deepEqual(await listed(), before);
      assert.deepEqual(
        readdirSync(cluster.paths.images).filter((name) => name.startsWith('loading-')),
        [],
      );
    });
  }
  test('one image of two is damaged: neither is loaded', async () => {
    const [first, second] = [dockerFiles('x', ['half:1']), dockerFiles('y', ['half:2'])];
    const both = [first, second].flatMap((files) => JSON.parse(files['manifest.json'] as string));
    both[1].Layers[0] = 'nowhere/layer.tar';
    const result = await load(await archive({ ...first, ...second, 'manifest.json': JSON.stringify(both) }));
    assert.match(result.stderr, /^podwire: the archive is damaged: nowhere\/layer\.tar is missing$/m);
    assert.ok(!(await listed()).some((one) => one.startsWith('half')));
  });
  test('a file that does not exist', async () => {
    const result = await load('/nowhere/image.tar');
    assert.equal(result.exitCode, 2);
    assert.match(result.stderr, /there is no file \/nowhere\/image\.tar/);
  });
});

describe('image pull', () => {
  test('fetches from a registry, here one on 127.0.0.1, and a pod runs it', async () => {
    const origin = new OciLayout(join(folder, 'origin'));
    const registry = createRegistry([origin]);
    await new Promise<void>((resolve) => registry.listen(0, '127.0.0.1', resolve));
    const host = `127.0.0.1:${(registry.address() as AddressInfo).port}`;
    try {
      const bytes = layers.map((layer) => layer.bytes);
      origin.addImage(`${host}/team/app:2`, { ...config.config, Cmd: ['echo', 'I was pulled'] }, bytes);
      const pulled = await podwire(['image', 'pull', '--name', cluster.name, `${host}/team/app:2`]);
      assert.equal(pulled.exitCode, 0, pulled.stderr);
      const container = { image: `${host}/team/app:2` };
      await applyAll(cluster, [pod('pulled', { container, spec: { restartPolicy: 'Never' } })]);
      await cluster.waitFor(
        'Pod',
        { namespace: 'default', name: 'pulled' },
        ({ status }) => status?.phase === 'Succeeded',
      );
      assert.equal(await cluster.logs('pulled'), 'I was pulled\n');
      const missing = await podwire(['image', 'pull', '--name', cluster.name, `${host}/team/none`]);
      assert.equal(missing.exitCode, 1);
      assert.match(missing.stderr, /cannot fetch .*team\/none:latest/);
    } finally {
      registry.closeAllConnections();
      registry.close();
    }
  });
});
