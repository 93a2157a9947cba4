/** Tables without a kernel, for tests: they refuse what the kernel refuses. */
import { ERRNO, KernelError } from '../../../linux/errors.ts';
import { MAPS } from './schema.ts';
import type { HashMap, Sizes, TableMemory } from './tables.ts';

export class FakeHash implements HashMap {
  readonly #elements = new Map<string, readonly [Buffer, Buffer]>();
  readonly #keySize: number;
  readonly #valueSize: number;
  readonly #maxEntries: number;

  constructor(keySize: number, valueSize: number, maxEntries: number) {
    this.#keySize = keySize;
    this.#valueSize = valueSize;
    this.#maxEntries = maxEntries;
  }

  set(key: Uint8Array, value: Uint8Array): void {
    if (key.length !== this.#keySize || value.length !== this.#valueSize) throw new RangeError('wrong size');
    const id = Buffer.from(key).toString('hex');
    if (!this.#elements.has(id) && this.#elements.size >= this.#maxEntries)
      throw new KernelError('update map', ERRNO['E2BIG']!);
    this.#elements.set(id, [Buffer.from(key), Buffer.from(value)]);
  }

  delete(key: Uint8Array): void {
    this.#elements.delete(Buffer.from(key).toString('hex'));
  }

  setAll(keys: Buffer, values: Buffer): void {
    for (let i = 0; i < keys.length / this.#keySize; i++)
      this.set(
        keys.subarray(i * this.#keySize, (i + 1) * this.#keySize),
        values.subarray(i * this.#valueSize, (i + 1) * this.#valueSize),
      );
  }

  entries(): readonly (readonly [Buffer, Buffer])[] {
    return [...this.#elements.values()];
  }
}

export function fakeMemory(sizes: Sizes, gracePeriod: () => Promise<void> = async () => {}): TableMemory {
  const hash = ({ keySize, valueSize }: { keySize: number; valueSize: number }, count: number) =>
    new FakeHash(keySize, valueSize, count);
  return {
    sizes,
    services4: hash(MAPS.services4, sizes.frontends),
    services6: hash(MAPS.services6, sizes.frontends),
    members: hash(MAPS.members, sizes.members),
    frontends: new ArrayBuffer(sizes.frontends * MAPS.frontends.valueSize),
    slots: new ArrayBuffer(sizes.slots * MAPS.slots.valueSize),
    endpoints: new ArrayBuffer(sizes.endpoints * MAPS.endpoints.valueSize),
    gracePeriod,
  };
}
