/**
 * The programs of one node in the kernel: loaded with maps of their own, filled by SocketTables, then attached to the node's
 * control group, each in one step in the place of the one before. They stay when the agent ends; so a new agent finds them,
 * takes over what they remember (affinity, what sockets believe to be connected to), and replaces them when its own tables
 * are complete. Nothing is pinned: they go with the control group.
 */
import { closeSync, openSync } from 'node:fs';
import {
  attachedPrograms,
  attachProgram,
  detachProgram,
  mapInfo,
  openMap,
  openProgram,
  programInfo,
} from '../../../linux/bpf/attach.ts';
import { BpfHash, MappedArray } from '../../../linux/bpf/maps.ts';
import { BpfObject } from '../../../linux/bpf/object.ts';
import { closeFd } from '../../../linux/sockets.ts';
import { decodeUdpSocket, KEPT_MAPS, MAPS, PROGRAM_PREFIX, PROGRAMS, type UdpSocket } from './schema.ts';
import type { Sizes, TableMemory } from './tables.ts';

/** One load of the programs. */
export interface SocketPrograms {
  /** Empty tables that no program reads until `attach`. */
  readonly memory: TableMemory;
  /** Puts the programs in force, in the place of what was attached. */
  attach(): void;
  /** Whether they are in force. */
  isAttached(): boolean;
  /** UDP sockets that are connected to an endpoint. */
  udpSockets(): readonly UdpSocket[];
  /** Gives the descriptors back; what is attached stays. */
  close(): void;
}

export interface ProgramFiles {
  /** The compiled programs. */
  readonly object: string;
  /** The node's control group, of version 2. */
  readonly cgroup: string;
}

export function loadPrograms(files: ProgramFiles, sizes: Sizes): SocketPrograms {
  return new LoadedPrograms(files, sizes);
}

class LoadedPrograms implements SocketPrograms {
  readonly memory: TableMemory;
  readonly #cgroup: number;
  readonly #object: BpfObject;
  readonly #arrays: readonly MappedArray[];
  readonly #udpSockets: BpfHash;
  readonly #ids: readonly number[];
  #grace: Promise<void> | undefined;

  constructor({ object, cgroup }: ProgramFiles, sizes: Sizes) {
    this.#cgroup = openSync(cgroup, 'r');
    try {
      this.#object = loadBeside(this.#cgroup, object, sizes);
    } catch (error) {
      closeSync(this.#cgroup);
      throw error;
    }
    const hash = ({ name, keySize, valueSize }: (typeof MAPS)[keyof typeof MAPS]) =>
      new BpfHash(this.#object.mapFd(name), name, keySize, valueSize);
    const array = (map: 'frontends' | 'slots' | 'endpoints') =>
      new MappedArray(this.#object.mapFd(MAPS[map].name), sizes[map], MAPS[map].valueSize);
    const [frontends, slots, endpoints] = [array('frontends'), array('slots'), array('endpoints')];
    this.#arrays = [frontends, slots, endpoints];
    this.#udpSockets = hash(MAPS.udpSockets);
    this.#ids = PROGRAMS.map(([name]) => programInfo(this.#object.programFd(name)).id);
    const grace = hash(MAPS.grace);
    this.memory = {
      sizes,
      services4: hash(MAPS.services4),
      services6: hash(MAPS.services6),
      members: hash(MAPS.members),
      frontends: frontends.bytes,
      slots: slots.bytes,
      endpoints: endpoints.bytes,
      gracePeriod: () => this.#waitForPrograms(grace),
    };
  }

  /** The kernel does not return from the change of a map of maps before programs that may still use the old one have ended. */
  async #waitForPrograms(grace: BpfHash): Promise<void> {
    const inner = Buffer.alloc(4);
    inner.writeInt32LE(this.#object.mapFd(MAPS.graceInner.name));
    this.#grace = grace.setAsync(Buffer.alloc(4), inner);
    try {
      await this.#grace;
    } finally {
      this.#grace = undefined;
    }
  }

  attach(): void {
    for (const [name, type] of PROGRAMS) {
      const [before, ...more] = ownPrograms(this.#cgroup, type);
      attachProgram(this.#cgroup, type, this.#object.programFd(name), before?.fd);
      for (const each of more) detachProgram(this.#cgroup, type, each.fd);
      for (const { fd } of before ? [before, ...more] : []) closeFd(fd);
    }
  }

  isAttached(): boolean {
    return PROGRAMS.every(([, type], i) => attachedPrograms(this.#cgroup, type).includes(this.#ids[i]!));
  }

  udpSockets(): readonly UdpSocket[] {
    return this.#udpSockets.entries().map(([key, value]) => decodeUdpSocket(key, value));
  }

  close(): void {
    const end = () => {
      for (const array of this.#arrays) array[Symbol.dispose]();
      this.#object.close();
      closeSync(this.#cgroup);
    };
    if (this.#grace) void this.#grace.then(end, end);
    else end();
  }
}

/** Loads the programs, with the maps that are kept taken from those that are attached. */
function loadBeside(cgroup: number, object: string, sizes: Sizes): BpfObject {
  const maxEntries = {
    [MAPS.services4.name]: sizes.frontends,
    [MAPS.services6.name]: sizes.frontends,
    [MAPS.frontends.name]: sizes.frontends,
    [MAPS.slots.name]: sizes.slots,
    [MAPS.endpoints.name]: sizes.endpoints,
    [MAPS.members.name]: sizes.members,
  };
  const reuse = keptMaps(cgroup);
  try {
    return BpfObject.load(object, { maxEntries, reuse });
  } finally {
    for (const fd of reuse.values()) closeFd(fd);
  }
}

/** Descriptors of the maps of attached programs that are worth keeping and have the layout of today. */
function keptMaps(cgroup: number): ReadonlyMap<string, number> {
  const kept = new Map<string, number>();
  for (const [, type] of PROGRAMS) {
    for (const program of ownPrograms(cgroup, type)) {
      for (const id of program.mapIds) keepMap(id, kept);
      closeFd(program.fd);
    }
  }
  return kept;
}

function keepMap(id: number, kept: Map<string, number>): void {
  const fd = openMap(id);
  const { name, keySize, valueSize } = mapInfo(fd);
  const wanted = KEPT_MAPS.find((map) => map.name === name);
  if (wanted && !kept.has(name) && wanted.keySize === keySize && wanted.valueSize === valueSize) kept.set(name, fd);
  else closeFd(fd);
}

/** podwire's programs at one place of the control group, with descriptors for the caller to close. */
function ownPrograms(cgroup: number, type: Parameters<typeof attachedPrograms>[1]) {
  return attachedPrograms(cgroup, type).flatMap((id) => {
    const fd = openProgram(id);
    const info = programInfo(fd);
    if (info.name.startsWith(PROGRAM_PREFIX)) return [{ ...info, fd }];
    closeFd(fd);
    return [];
  });
}

/** Takes podwire's programs off the control group. */
export function detachPrograms(cgroupPath: string): void {
  const cgroup = openSync(cgroupPath, 'r');
  try {
    for (const [, type] of PROGRAMS.toReversed()) {
      for (const { fd } of ownPrograms(cgroup, type)) {
        detachProgram(cgroup, type, fd);
        closeFd(fd);
      }
    }
  } finally {
    closeSync(cgroup);
  }
}
