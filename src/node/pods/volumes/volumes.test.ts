import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { FakeClock } from '../../../base/clock.ts';
import type { ConfigMap, corev1, Pod, Secret } from '../../../kube/types.ts';
import { writeAtomically } from './atomic-writer.ts';
import { ensureHostPath } from './host-path.ts';
import { mountPoints } from './mounts.ts';
import { buildPayload, checkRelativePath, type Payload } from './payload.ts';
import { checkSubPath, resolveSubPath } from './sub-path.ts';
import { TokenCache } from './tokens.ts';
import { VolumeManager } from './volume-manager.ts';

async function folderOf(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'podwire-volumes-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

const meta = { namespace: 'ns', uid: 'u', resourceVersion: '1', creationTimestamp: '' };
const pod: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { ...meta, name: 'web', labels: { a: '1', b: 'x"y' } },
  spec: { containers: [{ name: 'c', resources: { limits: { memory: '64Mi' } } }] },
};
const configMap: ConfigMap = {
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { ...meta, name: 'cm' },
  data: { a: 'one', b: 'two' },
  binaryData: { bin: Buffer.from([0, 255]).toString('base64') },
};
const secret: Secret = {
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { ...meta, name: 's' },
  data: { key: Buffer.from('hidden').toString('base64') },
};

function payloadOf(volume: Partial<corev1.Volume>) {
  return buildPayload(
    { name: 'v', ...volume },
    {
      pod,
      podIPs: [],
      hostIPs: [],
      allocatable: {},
      configMap: (name) => (name === 'cm' ? configMap : undefined),
      secret: (name) => (name === 's' ? secret : undefined),
      tokens: new Map([[3, 'jwt']]),
    },
  );
}

const texts = (payload: Payload | undefined) =>
  Object.fromEntries(
    [...(payload ?? [])].map(([path, { bytes, mode }]) => [path, `${Buffer.from(bytes)} ${mode.toString(8)}`]),
  );

test('payloads: whole objects, items, modes, projections', () => {
  assert.deepEqual(Object.keys(texts(payloadOf({ configMap: { name: 'cm' } }))), ['a', 'b', 'bin']);
  assert.deepEqual(
    texts(payloadOf({ secret: { secretName: 's', defaultMode: 0o400, items: [{ key: 'key', path: 'dir/k' }] } })),
    { 'dir/k': 'hidden 400' },
  );
  const sources = [
    { configMap: { name: 'cm', items: [{ key: 'a', path: 'x/a', mode: 0o600 }] } },
    { secret: { name: 's' } },
    {
      downwardAPI: {
        items: [
          { path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } },
          { path: 'mem', resourceFieldRef: { containerName: 'c', resource: 'limits.memory', divisor: '1Mi' } },
        ],
      },
    },
    { serviceAccountToken: { path: 'token' } },
  ];
  assert.deepEqual(texts(payloadOf({ projected: { sources } })), {
    'x/a': 'one 600',
    key: 'hidden 644',
    labels: 'a="1"\nb="x\\"y" 644',
    mem: '64 644',
    token: 'jwt 644',
  });
  assert.equal(payloadOf({ emptyDir: {} }), undefined);
});

test('payloads: what is missing', () => {
  assert.throws(() => payloadOf({ configMap: { name: 'none' } }), /configmap "none" not found/);
  assert.throws(() => payloadOf({ configMap: { name: 'cm', items: [{ key: 'z', path: 'z' }] } }), /non-existent/);
  assert.deepEqual(texts(payloadOf({ configMap: { name: 'none', optional: true } })), {});
  assert.deepEqual(texts(payloadOf({ secret: { secretName: 'none', optional: true } })), {});
});

test('paths: what could leave the volume is refused', () => {
  for (const path of ['/a', '../a', 'a/../b', 'a//b', '', '.', 'a/.', '..data', '..x/y', 'a\0b'])
    assert.throws(() => checkRelativePath(path), /invalid path/, JSON.stringify(path));
  for (const path of ['a', 'a/b', '.hidden', 'a..b', 'a/..b']) checkRelativePath(path);
  for (const path of ['/a', '../a', 'a/../b']) assert.throws(() => checkSubPath(path), /relative path/);
  fc.assert(
    fc.property(fc.string(), (path) => {
      try {
        checkRelativePath(path);
      } catch {
        return;
      }
      assert.ok(join('/volume', path).startsWith('/volume/'));
    }),
  );
});

const files = (content: Record<string, string>, mode = 0o644): Payload =>
  new Map(Object.entries(content).map(([path, text]) => [path, { bytes: Buffer.from(text), mode }]));

test('atomic writer: links, replacement, removal, no write without a change', async (t) => {
  const folder = join(await folderOf(t), 'v');
  assert.equal(writeAtomically(folder, files({ a: '1', 'dir/b': '2' })), true);
  assert.equal(await readlink(join(folder, 'a')), '..data/a');
  assert.equal(await readFile(join(folder, 'dir/b'), 'utf8'), '2');
  const first = await readlink(join(folder, '..data'));
  assert.equal(writeAtomically(folder, files({ a: '1', 'dir/b': '2' })), false);
  assert.equal(await readlink(join(folder, '..data')), first);
  assert.equal(writeAtomically(folder, files({ a: '3' })), true);
  assert.notEqual(await readlink(join(folder, '..data')), first);
  const names = (await readdir(folder)).sort();
  assert.deepEqual(
    names.filter((name) => !/^\.\.2/.test(name)),
    ['..data', 'a'],
  );
  assert.equal(names.length, 3);
  assert.equal(await readFile(join(folder, 'a'), 'utf8'), '3');
  // A change of nothing but the mode is a change.
  assert.equal(writeAtomically(folder, files({ a: '3' }, 0o600)), true);
  assert.equal((await stat(join(folder, 'a'))).mode & 0o777, 0o600);
  assert.equal(writeAtomically(folder, files({}), {}), true);
  assert.deepEqual(
    (await readdir(folder)).filter((name) => !name.startsWith('..')),
    [],
  );
});

test('atomic writer: the group may read', async (t) => {
  const folder = join(await folderOf(t), 'v');
  writeAtomically(folder, files({ a: '1' }, 0o400), { fsGroup: 2000 });
  const { gid, mode } = await stat(join(folder, 'a'));
  assert.equal(gid, 2000);
  assert.equal(mode & 0o777, 0o440);
});

test('subPath: made where missing, links inside are followed, links outside refused', async (t) => {
  const folder = await folderOf(t);
  const volume = join(folder, 'v');
  await mkdir(volume);
  await chmod(volume, 0o770);
  await writeFile(join(folder, 'secret'), 'of the node');
  assert.equal(await resolveSubPath(volume, 'new/deep'), join(volume, 'new/deep'));
  assert.equal((await stat(join(volume, 'new'))).mode & 0o777, 0o770);
  await symlink('new', join(volume, 'inside'));
  assert.equal(await resolveSubPath(volume, 'inside/deep'), join(volume, 'new/deep'));
  await symlink('../secret', join(volume, 'out'));
  await symlink('/etc', join(volume, 'etc'));
  await symlink('/nowhere', join(volume, 'dangling'));
  for (const path of ['out', 'etc', 'etc/passwd', 'dangling', 'dangling/x'])
    await assert.rejects(resolveSubPath(volume, path), /not within volume path/, path);
});

test('hostPath: types', async (t) => {
  const folder = await folderOf(t);
  assert.equal(await ensureHostPath({ path: join(folder, 'a/b'), type: 'DirectoryOrCreate' }), join(folder, 'a/b'));
  await ensureHostPath({ path: join(folder, 'f'), type: 'FileOrCreate' });
  await ensureHostPath({ path: '/dev/null', type: 'CharDevice' });
  await assert.rejects(ensureHostPath({ path: join(folder, 'f'), type: 'Directory' }), /is not a directory/);
  await assert.rejects(ensureHostPath({ path: join(folder, 'none'), type: 'Socket' }), /is not a socket file/);
  await assert.rejects(ensureHostPath({ path: `${folder}/../x` }), /absolute and without/);
});

test('mount tables: escaped mount points', () => {
  const table = '36 35 98:0 / /mnt/a\\040b rw - ext3 /dev/root rw\n37 35 98:0 / /x rw - tmpfs tmpfs rw\n';
  assert.deepEqual(mountPoints(table), ['/mnt/a b', '/x']);
});

test('tokens: asked for once, again before they run out, an old one when the server is away', async () => {
  const clock = new FakeClock();
  let asked = 0;
  let away = false;
  const source = {
    requestToken: async () => {
      if (away) throw new Error('away');
      return { token: `t${++asked}`, expiresAt: clock.now() + 3_600_000 };
    },
  };
  const cache = new TokenCache(source, clock);
  const volume = { name: 'v', projected: { sources: [{ serviceAccountToken: { path: 'token' } }] } };
  const token = async () => (await cache.forVolume(pod, volume)).get(0);
  assert.equal(await token(), 't1');
  assert.equal(await token(), 't1');
  assert.equal(cache.refreshAt('u'), clock.now() + 2_880_000);
  await clock.advance(2_900_000);
  away = true;
  assert.equal(await token(), 't1');
  away = false;
  assert.equal(await token(), 't2');
  await assert.rejects(new TokenCache(undefined, clock).forVolume(pod, volume), /cannot get service account tokens/);
});

test('Secrets lie in the folder in memory, ConfigMaps do not; both go with the pod', async (t) => {
  const folder = await folderOf(t);
  const podsDir = join(folder, 'pods');
  const memoryDir = join(folder, 'memory');
  const mounts = { tmpfs: async () => {}, unmount: async () => {} };
  const manager = new VolumeManager({ podsDir, memoryDir, mounts, clock: new FakeClock() });
  const names = ['plain', 'hidden', 'both'];
  const volumes = [
    { name: 'plain', configMap: { name: 'cm' } },
    { name: 'hidden', secret: { secretName: 's' } },
    { name: 'both', projected: { sources: [{ secret: { name: 's' } }] } },
  ];
  const volumeMounts = names.map((name) => ({ name, mountPath: `/${name}` }));
  const paths = await manager.setUp({
    pod: { ...pod, spec: { containers: [{ name: 'c', volumeMounts }], volumes } },
    podIPs: [],
    hostIPs: [],
    allocatable: {},
    configMap: () => configMap,
    secret: () => secret,
  });
  const places = names.map((name) => paths.get(name)!.slice(folder.length).split('/')[1]);
  assert.deepEqual(places, ['pods', 'memory', 'memory']);
  assert.equal(await readFile(join(paths.get('hidden')!, 'key'), 'utf8'), 'hidden');
  assert.deepEqual(await manager.podsOnDisk(), ['u']);
  await rm(podsDir, { recursive: true });
  assert.deepEqual(await manager.podsOnDisk(), ['u']);
  await manager.tearDown('u');
  assert.deepEqual(await manager.podsOnDisk(), []);
});
