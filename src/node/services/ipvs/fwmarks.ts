/** The marks by which IPVS finds another virtual service: one for each frontend whose clients outside go elsewhere. */
import { FIRST_FWMARK, FWMARK_COUNT } from './chains.ts';

// FNV-1a, 32 bits.
const OFFSET_BASIS = 0x811c9dc5;
const PRIME = 0x01000193;

export class Fwmarks {
  readonly #byId = new Map<string, number>();
  readonly #taken = new Set<number>();

  clear(): void {
    this.#byId.clear();
    this.#taken.clear();
  }

  /** A hash of the frontend's key, so that a new agent gives the same; the next free one where it is taken. */
  of(id: string): number {
    const known = this.#byId.get(id);
    if (known !== undefined) return known;
    let hash = OFFSET_BASIS;
    for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), PRIME);
    let mark = FIRST_FWMARK + ((hash >>> 0) % FWMARK_COUNT);
    while (this.#taken.has(mark)) mark = mark + 1 < FIRST_FWMARK + FWMARK_COUNT ? mark + 1 : FIRST_FWMARK;
    this.#byId.set(id, mark);
    this.#taken.add(mark);
    return mark;
  }

  free(id: string): void {
    const mark = this.#byId.get(id);
    if (mark === undefined) return;
    this.#byId.delete(id);
    this.#taken.delete(mark);
  }
}
