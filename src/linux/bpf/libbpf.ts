/**
 * libbpf's functions that podwire needs, bound at first use. They return what C returns; `checkBpf` turns a negative result
 * into a KernelError.
 *
 * libbpf is there wherever iproute2 is (Debian: libbpf1). Only functions that have been in it since 1.0 are used.
 */
import koffi from 'koffi';
import { ERRNO, errnoName, KernelError } from '../errors.ts';

const LIBRARY = 'libbpf.so.1';

export type Pointer = bigint | object;

/** Loads libbpf at first use. Throws a KernelError with ENOSYS when it is not installed. */
export function libbpf(): ReturnType<typeof bindAll> {
  bound ??= bindAll(loadLibrary());
  return bound;
}

let bound: ReturnType<typeof bindAll> | undefined;

function loadLibrary(): ReturnType<typeof koffi.load> {
  try {
    return koffi.load(LIBRARY);
  } catch {
    throw new KernelError('load libbpf', ERRNO['ENOSYS']!, `${LIBRARY} is not installed (Debian: libbpf1)`);
  }
}

function bindAll(lib: ReturnType<typeof koffi.load>) {
  const setPrint = lib.func('void *libbpf_set_print(void *print)') as (print: null) => Pointer | null;
  // Its complaints go to stderr otherwise; the verifier's log is read from a buffer instead.
  setPrint(null);
  return {
    openFile: lib.func('void *bpf_object__open_file(const char *path, void *options)') as (
      path: string,
      options: null,
    ) => Pointer | null,
    close: lib.func('void bpf_object__close(void *object)') as (object: Pointer) => void,
    load: lib.func('int bpf_object__load(void *object)') as (object: Pointer) => number,
    findMap: lib.func('void *bpf_object__find_map_by_name(void *object, const char *name)') as FindByName,
    findProgram: lib.func('void *bpf_object__find_program_by_name(void *object, const char *name)') as FindByName,
    nextProgram: lib.func('void *bpf_object__next_program(void *object, void *program)') as (
      object: Pointer,
      program: Pointer | null,
    ) => Pointer | null,
    setLogBuffer: lib.func('int bpf_program__set_log_buf(void *program, void *bytes, size_t size)') as (
      program: Pointer,
      bytes: Uint8Array,
      size: number,
    ) => number,
    programFd: lib.func('int bpf_program__fd(void *program)') as (program: Pointer) => number,
    mapFd: lib.func('int bpf_map__fd(void *map)') as (map: Pointer) => number,
    setMaxEntries: lib.func('int bpf_map__set_max_entries(void *map, uint32_t count)') as (
      map: Pointer,
      count: number,
    ) => number,
    reuseFd: lib.func('int bpf_map__reuse_fd(void *map, int fd)') as (map: Pointer, fd: number) => number,
    update: lib.func('int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)') as Update,
    lookup: lib.func('int bpf_map_lookup_elem(int fd, const void *key, void *value)') as (
      fd: number,
      key: Uint8Array,
      value: Uint8Array,
    ) => number,
    delete: lib.func('int bpf_map_delete_elem(int fd, const void *key)') as (fd: number, key: Uint8Array) => number,
    updateBatch: lib.func(
      'int bpf_map_update_batch(int fd, const void *keys, const void *values, void *count, void *options)',
    ) as (fd: number, keys: Uint8Array, values: Uint8Array, count: Uint8Array, options: null) => number,
    lookupBatch: lib.func(
      'int bpf_map_lookup_batch(int fd, void *in, void *out, void *keys, void *values, void *count, void *options)',
    ) as (
      fd: number,
      from: Uint8Array | null,
      to: Uint8Array,
      keys: Uint8Array,
      values: Uint8Array,
      count: Uint8Array,
      options: null,
    ) => number,
    loadProgram: lib.func(
      'int bpf_prog_load(int type, const char *name, const char *license, const void *code, size_t count, void *options)',
    ) as (type: number, name: string, license: string, code: Uint8Array, count: number, options: Uint8Array) => number,
    attach: lib.func('int bpf_prog_attach_opts(int program, int target, int type, void *options)') as (
      program: number,
      target: number,
      type: number,
      options: Uint8Array,
    ) => number,
    detach: lib.func('int bpf_prog_detach2(int program, int target, int type)') as (
      program: number,
      target: number,
      type: number,
    ) => number,
    query: lib.func('int bpf_prog_query(int target, int type, uint32_t flags, void *out, void *ids, void *count)') as (
      target: number,
      type: number,
      flags: number,
      attachFlags: null,
      ids: Uint8Array,
      count: Uint8Array,
    ) => number,
    programById: lib.func('int bpf_prog_get_fd_by_id(uint32_t id)') as (id: number) => number,
    mapById: lib.func('int bpf_map_get_fd_by_id(uint32_t id)') as (id: number) => number,
    info: lib.func('int bpf_obj_get_info_by_fd(int fd, void *info, void *size)') as (
      fd: number,
      info: Uint8Array,
      size: Uint8Array,
    ) => number,
  } as const;
}

type Update = ((fd: number, key: Uint8Array, value: Uint8Array, flags: number) => number) & {
  async: (
    fd: number,
    key: Uint8Array,
    value: Uint8Array,
    flags: number,
    done: (error: unknown, result: number) => void,
  ) => void;
};
type FindByName = (object: Pointer, name: string) => Pointer | null;

/** Returns a result, or throws a KernelError: libbpf returns the negative errno. */
export function checkBpf(operation: string, result: number, detail?: string): number {
  if (result < 0) throw new KernelError(operation, -result, detail);
  return result;
}

/** Returns a pointer, or throws a KernelError with the errno of the call that has just returned null. */
export function checkPointer(operation: string, pointer: Pointer | null): Pointer {
  if (pointer !== null) return pointer;
  const errno = koffi.errno() || ERRNO['ENOENT']!;
  throw new KernelError(operation, errno, `libbpf: ${errnoName(errno)}`);
}
