/** BPF maps from user space: hash maps by system calls (1-2 us each), arrays as memory that programs read at the same time. */
import koffi from 'koffi';
import { ERRNO, KernelError } from '../errors.ts';
import { check, libc } from '../libc.ts';
import { checkBpf, libbpf } from './libbpf.ts';

/** uapi/linux/bpf.h */
const BPF_ANY = 0;
/** Elements in one system call of a bulk update or listing. */
const BATCH = 4096;

/** A hash map of fixed-size keys and values, by its descriptor, which belongs to the caller. */
export class BpfHash {
  readonly #fd: number;
  readonly #name: string;
  readonly #keySize: number;
  readonly #valueSize: number;

  constructor(fd: number, name: string, keySize: number, valueSize: number) {
    this.#fd = fd;
    this.#name = name;
    this.#keySize = keySize;
    this.#valueSize = valueSize;
  }

  /** Puts an element or replaces it. E2BIG: the map is full. */
  set(key: Uint8Array, value: Uint8Array): void {
    checkBpf(`update map ${this.#name}`, libbpf().update(this.#fd, key, value, BPF_ANY));
  }

  /** The same on a pool thread, for maps of maps: it resolves when every program that runs now has ended. */
  setAsync(key: Uint8Array, value: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      libbpf().update.async(this.#fd, key, value, BPF_ANY, (error, result) => {
        if (error) reject(error);
        else if (result < 0) reject(new KernelError(`update map ${this.#name}`, -result));
        else resolve();
      });
    });
  }

  get(key: Uint8Array): Buffer | undefined {
    const value = Buffer.alloc(this.#valueSize);
    const result = libbpf().lookup(this.#fd, key, value);
    if (result === -ERRNO['ENOENT']!) return undefined;
    checkBpf(`look up in map ${this.#name}`, result);
    return value;
  }

  /** Deletes an element; one that is not there is fine. */
  delete(key: Uint8Array): void {
    const result = libbpf().delete(this.#fd, key);
    if (result !== -ERRNO['ENOENT']!) checkBpf(`delete from map ${this.#name}`, result);
  }

  /** Puts many: keys and values one after the other. */
  setAll(keys: Buffer, values: Buffer): void {
    const total = keys.length / this.#keySize;
    const count = Buffer.alloc(4);
    for (let from = 0; from < total; from += BATCH) {
      const to = Math.min(total, from + BATCH);
      count.writeUInt32LE(to - from);
      const result = libbpf().updateBatch(
        this.#fd,
        keys.subarray(from * this.#keySize, to * this.#keySize),
        values.subarray(from * this.#valueSize, to * this.#valueSize),
        count,
        null,
      );
      checkBpf(`update map ${this.#name}`, result);
    }
  }

  /** All elements. What changes meanwhile may be missed or met twice. */
  entries(): [key: Buffer, value: Buffer][] {
    const found: [Buffer, Buffer][] = [];
    const keys = Buffer.alloc(BATCH * this.#keySize);
    const values = Buffer.alloc(BATCH * this.#valueSize);
    const count = Buffer.alloc(4);
    // A hash map's position is a bucket number of 4 bytes.
    const position = Buffer.alloc(8);
    for (let first = true, more = true; more; first = false) {
      count.writeUInt32LE(BATCH);
      const result = libbpf().lookupBatch(this.#fd, first ? null : position, position, keys, values, count, null);
      more = result !== -ERRNO['ENOENT']!;
      if (more) checkBpf(`list map ${this.#name}`, result);
      for (let i = 0; i < count.readUInt32LE(); i++) {
        const key = keys.subarray(i * this.#keySize, (i + 1) * this.#keySize);
        const value = values.subarray(i * this.#valueSize, (i + 1) * this.#valueSize);
        found.push([Buffer.from(key), Buffer.from(value)]);
      }
    }
    return found;
  }
}

// sys/mman.h
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const PAGE = 4096;

/** The memory of an array map (BPF_F_MMAPABLE). It stays there until it is unmapped, also when the descriptor is closed. */
export class MappedArray implements Disposable {
  readonly #at: bigint | object;
  readonly #length: number;
  readonly bytes: ArrayBuffer;

  /** `valueSize` is a multiple of 8, as the kernel pads it to. */
  constructor(fd: number, count: number, valueSize: number) {
    this.#length = Math.ceil((count * valueSize) / PAGE) * PAGE;
    this.#at = libc.mmap(null, this.#length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (koffi.address(this.#at) === 0xffff_ffff_ffff_ffffn) throw new KernelError('map an array', koffi.errno());
    this.bytes = koffi.view(this.#at, this.#length);
  }

  /** The memory must not be touched afterwards. */
  [Symbol.dispose](): void {
    check('unmap an array', libc.munmap(this.#at, this.#length));
  }
}
