/** BPF from TypeScript: objects, maps and programs at a control group, in the running kernel. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  AttachType,
  attachedPrograms,
  attachProgram,
  detachProgram,
  mapInfo,
  openMap,
  openProgram,
  programExists,
  programInfo,
  requireSocketPrograms,
} from '../../src/linux/bpf/attach.ts';
import { BpfHash, MappedArray } from '../../src/linux/bpf/maps.ts';
import { BpfObject } from '../../src/linux/bpf/object.ts';
import { cgroup2Root, makeCgroup, removeCgroup } from '../../src/linux/cgroup.ts';
import { hasCode, isNotFound } from '../../src/linux/errors.ts';
import { closeFd } from '../../src/linux/sockets.ts';

const SOURCE = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } numbers SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); } cells SEC(".maps");
SEC("cgroup/connect4") int first(struct bpf_sock_addr *ctx)
{
	__u32 key = ctx->user_port;
	__u64 *value = bpf_map_lookup_elem(&numbers, &key);
	return LOOK 1;
}
SEC("cgroup/connect4") int second(struct bpf_sock_addr *ctx) { return 1; }
`;

let folder: string;
let good: string;
let cgroup: string;
let cgroupFd: number;

function compile(name: string, look: string): string {
  const [source, object] = [join(folder, `${name}.c`), join(folder, `${name}.o`)];
  writeFileSync(source, SOURCE.replace('LOOK', look));
  const include = `-I/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
  execFileSync('clang', ['-target', 'bpf', '-O2', '-g', include, '-c', source, '-o', object]);
  return object;
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'podwire-bpf-'));
  good = compile('good', 'value && *value == 7 ? 0 :');
  cgroup = join(cgroup2Root()!, `podwire-test-${process.pid}-bpf`);
  makeCgroup(cgroup);
  cgroupFd = openSync(cgroup, 'r');
});
after(() => {
  closeFd(cgroupFd);
  removeCgroup(cgroup);
  rmSync(folder, { recursive: true });
});

test('what the verifier refuses is told in its own words', () => {
  const bad = compile('bad', '*value == 7 ? 0 :');
  assert.throws(
    () => BpfObject.load(bad),
    (error) => {
      assert.ok(hasCode(error, 'EACCES'), String(error));
      assert.match((error as Error).message, /invalid mem access 'map_value_or_null'/);
      return true;
    },
  );
  assert.throws(() => BpfObject.load(join(folder, 'none.o')), isNotFound);
  using object = BpfObject.load(good);
  assert.throws(() => object.mapFd('nothing'), isNotFound);
});

test('hash maps: one by one, many at once, full', () => {
  using object = BpfObject.load(good, { maxEntries: { numbers: 10_000 } });
  const map = new BpfHash(object.mapFd('numbers'), 'numbers', 4, 8);
  const key = (n: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(n);
    return bytes;
  };
  map.set(key(1), Buffer.from('aaaaaaaa'));
  map.set(key(1), Buffer.from('bbbbbbbb'));
  assert.equal(map.get(key(1))?.toString(), 'bbbbbbbb');
  assert.equal(map.get(key(2)), undefined);
  map.delete(key(1));
  map.delete(key(1));
  assert.deepEqual(map.entries(), []);
  const keys = Buffer.concat(Array.from({ length: 9000 }, (_, n) => key(n)));
  map.setAll(keys, Buffer.alloc(9000 * 8, 1));
  assert.equal(map.entries().length, 9000);
  assert.equal(new Set(map.entries().map(([each]) => each.readUInt32LE())).size, 9000);
  assert.throws(
    () => {
      for (let n = 9000; n < 20_000; n++) map.set(key(n), Buffer.alloc(8));
    },
    (error) => hasCode(error, 'E2BIG'),
  );
});

test('an array is memory: what is stored is what programs and system calls see', () => {
  const object = BpfObject.load(good);
  const fd = object.mapFd('cells');
  const array = new MappedArray(fd, 8, 8);
  Atomics.store(new BigUint64Array(array.bytes), 5, 77n);
  assert.equal(new BpfHash(fd, 'cells', 4, 8).get(Buffer.from([5, 0, 0, 0]))?.readBigUInt64LE(), 77n);
  object.close();
  assert.equal(Atomics.load(new BigUint64Array(array.bytes), 5), 77n, 'it outlives its descriptor');
  array[Symbol.dispose]();
});

test('programs stay attached without a process that has them, are replaced in place, and found again with their maps', () => {
  const object = BpfObject.load(good);
  attachProgram(cgroupFd, AttachType.connect4, object.programFd('first'));
  new BpfHash(object.mapFd('numbers'), 'numbers', 4, 8).set(Buffer.from('key!'), Buffer.from('8 bytes!'));
  object.close();
  const [id] = attachedPrograms(cgroupFd, AttachType.connect4) as [number];
  const old = openProgram(id);
  const { name, mapIds } = programInfo(old);
  assert.deepEqual([name, mapIds.length], ['first', 1]);
  const map = openMap(mapIds[0]!);
  assert.deepEqual(mapInfo(map), { id: mapIds[0], name: 'numbers', keySize: 4, valueSize: 8 });
  using next = BpfObject.load(good, { reuse: new Map([['numbers', map]]) });
  closeFd(map);
  attachProgram(cgroupFd, AttachType.connect4, next.programFd('second'), old);
  closeFd(old);
  const [replaced, ...more] = attachedPrograms(cgroupFd, AttachType.connect4);
  assert.deepEqual(more, []);
  assert.notEqual(replaced, id);
  assert.equal(new BpfHash(next.mapFd('numbers'), 'numbers', 4, 8).get(Buffer.from('key!'))?.toString(), '8 bytes!');
  detachProgram(cgroupFd, AttachType.connect4, next.programFd('second'));
  assert.deepEqual(attachedPrograms(cgroupFd, AttachType.connect4), []);
  assert.ok(programExists(replaced!));
});

test('this kernel takes programs at connect', () => {
  requireSocketPrograms();
});
