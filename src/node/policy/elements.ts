/**
 * An exact picture of what the kernel's sets and maps shall hold. The model writes elements here; whoever applies them takes
 * the net difference since the last time.
 */
import { isIPv4 } from 'node:net';
import { type SetName, setDeclarations, tableName } from './sets.ts';

/** What the maps of the tiers say, in `meta mark` where the identity was: numbers that no identity has. */
export const tierCodes = { accept: 2, pass: 4 } as const;
/** Set in the mark of a packet that a ClusterNetworkPolicy denies; the rest of the mark is the policy's number. */
export const denyBit = 0x80000000;

/** What the maps of the tiers say when the policy of this number denies. */
export function denyMark(policyNumber: number): number {
  return denyBit + policyNumber;
}

/** 4 or 6, the last letter of the names of sets that hold addresses. */
export function familyOfAddress(address: string): 4 | 6 {
  return isIPv4(address) ? 4 : 6;
}

/** A class as nftables writes it (a traffic control handle, because it rides in `meta priority`). */
export function formatClass(number: number): string {
  return `${(number >>> 16).toString(16)}:${(number & 0xffff).toString(16)}`;
}

/** One element's change: undefined means absent; the value of a set's element is ''. */
export interface ElementChange {
  readonly set: SetName;
  readonly key: string;
  readonly before: string | undefined;
  readonly after: string | undefined;
  /** It went because nothing refers to its class or identity any more: deleted in a later transaction of its own. */
  readonly garbage: boolean;
}

export class Elements {
  readonly #sets = new Map<SetName, Map<string, string>>();
  readonly #changes = new Map<SetName, Map<string, { before: string | undefined; garbage: boolean }>>();

  constructor() {
    for (const name of Object.keys(setDeclarations)) this.#sets.set(name, new Map());
  }

  get(set: SetName, key: string): string | undefined {
    return this.#of(set).get(key);
  }

  /** Every element of a set, unordered. */
  entries(set: SetName): ReadonlyMap<string, string> {
    return this.#of(set);
  }

  get size(): number {
    return [...this.#sets.values()].reduce((sum, set) => sum + set.size, 0);
  }

  /** Sets an element; `value` is '' in a set. */
  put(set: SetName, key: string, value = ''): void {
    const elements = this.#of(set);
    const before = elements.get(key);
    if (before === value) return;
    elements.set(key, value);
    this.#note(set, key, before, false);
  }

  delete(set: SetName, key: string, garbage = false): void {
    const elements = this.#of(set);
    const before = elements.get(key);
    if (before === undefined) return;
    elements.delete(key);
    this.#note(set, key, before, garbage);
  }

  /** The net difference since the last call, and forgets it. */
  take(): ElementChange[] {
    const result: ElementChange[] = [];
    for (const [set, changes] of this.#changes) {
      for (const [key, { before, garbage }] of changes) {
        const after = this.#of(set).get(key);
        if (after !== before) result.push({ set, key, before, after, garbage: garbage && after === undefined });
      }
    }
    this.#changes.clear();
    return result;
  }

  /** The difference from another picture, for example what the kernel holds; what is here wins. */
  difference(from: ReadonlyMap<SetName, ReadonlyMap<string, string>>): ElementChange[] {
    const result: ElementChange[] = [];
    for (const [set, wanted] of this.#sets) {
      const there = from.get(set);
      for (const [key, after] of wanted) {
        const before = there?.get(key);
        if (before !== after) result.push({ set, key, before, after, garbage: false });
      }
      for (const [key, before] of there ?? []) {
        if (!wanted.has(key)) result.push({ set, key, before, after: undefined, garbage: false });
      }
    }
    return result;
  }

  #of(set: SetName): Map<string, string> {
    const elements = this.#sets.get(set);
    if (!elements) throw new Error(`no set ${set} in the table ${tableName}`);
    return elements;
  }

  #note(set: SetName, key: string, before: string | undefined, garbage: boolean): void {
    let changes = this.#changes.get(set);
    if (!changes) {
      changes = new Map();
      this.#changes.set(set, changes);
    }
    const noted = changes.get(key);
    if (noted) noted.garbage = garbage;
    else changes.set(key, { before, garbage });
  }
}
