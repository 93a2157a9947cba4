/**
 * A chain whose rules are one for each frontend (or shared address) and match nothing in common, so that their order means
 * nothing to packets. They are kept sorted by key all the same: what many changes leave is then what a fresh start writes.
 */

interface Entry {
  readonly rule: string;
  /** How many asked for it: addresses are shared between frontends. */
  users: number;
}

export class RuleList {
  readonly chain: string;
  readonly #keys: string[] = [];
  readonly #entries = new Map<string, Entry>();

  constructor(chain: string) {
    this.chain = chain;
  }

  /** All rules in their order. */
  get rules(): readonly string[] {
    return this.#keys.map((key) => this.#entries.get(key)!.rule);
  }

  /** Adds a rule; the command that does it, or none when it is there. */
  add(key: string, rule: string): readonly string[] {
    const known = this.#entries.get(key);
    if (known) {
      if (known.rule !== rule) throw new Error(`${this.chain} has another rule for ${key}`);
      known.users++;
      return [];
    }
    const at = this.#position(key);
    this.#keys.splice(at, 0, key);
    this.#entries.set(key, { rule, users: 1 });
    return [`-I ${this.chain} ${at + 1} ${rule}`];
  }

  /** Puts a rule in the place of another; the new one stands before the old one goes. */
  replace(key: string, rule: string): readonly string[] {
    const known = this.#entries.get(key);
    if (!known) throw new Error(`${this.chain} has no rule for ${key}`);
    if (known.rule === rule) return [];
    this.#entries.set(key, { rule, users: known.users });
    return [`-I ${this.chain} ${this.#position(key) + 1} ${rule}`, `-D ${this.chain} ${known.rule}`];
  }

  /** Takes one use of a rule back; the command that deletes it when it was the last. */
  remove(key: string): readonly string[] {
    const known = this.#entries.get(key);
    if (!known) throw new Error(`${this.chain} has no rule for ${key}`);
    if (--known.users > 0) return [];
    this.#keys.splice(this.#position(key), 1);
    this.#entries.delete(key);
    return [`-D ${this.chain} ${known.rule}`];
  }

  #position(key: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
