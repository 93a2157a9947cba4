/**
 * Programs attached to a control group (version 2). They stay attached when the process ends, and go with the control group:
 * nothing is pinned anywhere. Several may be attached beside each other (BPF_F_ALLOW_MULTI).
 */
import { addressOf } from '../libc.ts';
import { closeFd } from '../sockets.ts';
import { checkBpf, libbpf } from './libbpf.ts';

/** enum bpf_attach_type of uapi/linux/bpf.h, those of sockets in a control group. */
export const AttachType = {
  sockRelease: 34,
  connect4: 10,
  connect6: 11,
  sendmsg4: 14,
  sendmsg6: 15,
  recvmsg4: 19,
  recvmsg6: 20,
  getpeername4: 29,
  getpeername6: 30,
} as const;
export type AttachType = (typeof AttachType)[keyof typeof AttachType];

const BPF_F_ALLOW_MULTI = 1 << 1;
const BPF_F_REPLACE = 1 << 2;
/** The kernel attaches at most 64 programs to one control group at one place. */
const MAX_PROGRAMS = 64;

/** The ids of the programs that are attached to the control group itself, in the order in which they run. */
export function attachedPrograms(cgroupFd: number, type: AttachType): readonly number[] {
  const ids = Buffer.alloc(MAX_PROGRAMS * 4);
  const count = Buffer.alloc(4);
  count.writeUInt32LE(MAX_PROGRAMS);
  checkBpf('list attached programs', libbpf().query(cgroupFd, type, 0, null, ids, count));
  return Array.from({ length: count.readUInt32LE() }, (_, i) => ids.readUInt32LE(i * 4));
}

/** Attaches a program, in one step in the place of another one where that is given. */
export function attachProgram(cgroupFd: number, type: AttachType, programFd: number, replacedFd?: number): void {
  // struct bpf_prog_attach_opts: size_t sz; unsigned int flags; int replace_prog_fd
  const options = Buffer.alloc(16);
  options.writeBigUInt64LE(16n);
  options.writeUInt32LE(BPF_F_ALLOW_MULTI | (replacedFd === undefined ? 0 : BPF_F_REPLACE), 8);
  options.writeInt32LE(replacedFd ?? 0, 12);
  checkBpf('attach a program', libbpf().attach(programFd, cgroupFd, type, options));
}

export function detachProgram(cgroupFd: number, type: AttachType, programFd: number): void {
  checkBpf('detach a program', libbpf().detach(programFd, cgroupFd, type));
}

/** enum bpf_prog_type. */
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR = 18;

/**
 * Throws unless the kernel takes a program at connect that says what connect(2) returns (Linux 5.18): the newest of what
 * podwire's own programs need.
 */
export function requireSocketPrograms(): void {
  // r1 = 0; call bpf_set_retval (187); r0 = 1; exit
  const code = Buffer.from('b701000000000000' + '85000000bb000000' + 'b700000001000000' + '9500000000000000', 'hex');
  // struct bpf_prog_load_opts: size_t sz; int attempts; enum bpf_attach_type expected_attach_type
  const options = Buffer.alloc(16);
  options.writeBigUInt64LE(16n);
  options.writeUInt32LE(AttachType.connect4, 12);
  const { loadProgram } = libbpf();
  closeFd(
    checkBpf(
      'load a program',
      loadProgram(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, 'probe', 'Apache-2.0', code, code.length / 8, options),
    ),
  );
}

export interface ProgramInfo {
  readonly id: number;
  /** At most 15 characters. */
  readonly name: string;
  readonly mapIds: readonly number[];
}

const MAX_MAPS = 64;

export function programInfo(programFd: number): ProgramInfo {
  // struct bpf_prog_info: id at 4, nr_map_ids at 52, map_ids at 56, name at 64
  const info = Buffer.alloc(80);
  const ids = Buffer.alloc(MAX_MAPS * 4);
  info.writeUInt32LE(MAX_MAPS, 52);
  info.writeBigUInt64LE(addressOf(ids), 56);
  ask(programFd, info);
  const count = Math.min(MAX_MAPS, info.readUInt32LE(52));
  return {
    id: info.readUInt32LE(4),
    name: cString(info.subarray(64, 80)),
    mapIds: Array.from({ length: count }, (_, i) => ids.readUInt32LE(i * 4)),
  };
}

export interface MapInfo {
  readonly id: number;
  /** At most 15 characters. */
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
}

export function mapInfo(mapFd: number): MapInfo {
  // struct bpf_map_info: id at 4, key_size at 8, value_size at 12, name at 24
  const info = Buffer.alloc(40);
  ask(mapFd, info);
  return {
    id: info.readUInt32LE(4),
    name: cString(info.subarray(24, 40)),
    keySize: info.readUInt32LE(8),
    valueSize: info.readUInt32LE(12),
  };
}

function ask(fd: number, info: Buffer): void {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(info.length);
  checkBpf('ask about a BPF object', libbpf().info(fd, info, size));
}

function cString(bytes: Buffer): string {
  return bytes.toString('utf8', 0, bytes.indexOf(0));
}

/** A descriptor of a program that exists, for the caller to close. ENOENT where it is gone. */
export function openProgram(id: number): number {
  return checkBpf(`open program ${id}`, libbpf().programById(id));
}

/** A descriptor of a map that exists, for the caller to close. ENOENT where it is gone. */
export function openMap(id: number): number {
  return checkBpf(`open map ${id}`, libbpf().mapById(id));
}

/** Whether there is a program of the id. */
export function programExists(id: number): boolean {
  const fd = libbpf().programById(id);
  if (fd < 0) return false;
  closeFd(fd);
  return true;
}
