/**
 * The elements of the nftables tables beside IPVS: how many ask for each, and what has changed since the kernel was told. Several
 * frontends may ask for one element, and an element that goes and comes back between two transactions is not written at all.
 */
import type { Family } from '../../../base/ip.ts';
import { ARP_TABLE, MAPS, tableOf } from './chains.ts';
import type { Element } from './render.ts';

export class Elements {
  readonly #users = new Map<string, number>();
  /** "table set element" -> "table set". */
  readonly #added = new Map<string, string>();
  readonly #removed = new Map<string, string>();

  /** For tables that are made anew, without elements. */
  clear(): void {
    for (const each of [this.#users, this.#added, this.#removed]) each.clear();
  }

  use(family: Family, element: Element): void {
    const id = idOf(family, element);
    const before = this.#users.get(id) ?? 0;
    this.#users.set(id, before + 1);
    if (before === 0) change(this.#added, this.#removed, placesOf(family, element));
  }

  release(family: Family, element: Element): void {
    const id = idOf(family, element);
    const after = this.#users.get(id)! - 1;
    if (after > 0) this.#users.set(id, after);
    else {
      this.#users.delete(id);
      change(this.#removed, this.#added, placesOf(family, element));
    }
  }

  /** The changes since the last call, for one transaction; `text` is empty when there are none. */
  take(): { readonly text: string; readonly count: number } {
    const lines = [...linesOf('delete', this.#removed), ...linesOf('add', this.#added)];
    const count = this.#added.size + this.#removed.size;
    this.#added.clear();
    this.#removed.clear();
    return { text: lines.map((line) => `${line}\n`).join(''), count };
  }
}

function idOf(family: Family, { set, key, value }: Element): string {
  return `${family} ${set} ${key} ${value ?? ''}`;
}

function change(to: Map<string, string>, from: Map<string, string>, places: readonly Place[]): void {
  for (const { where, text } of places) {
    const id = `${where} ${text}`;
    if (!from.delete(id)) to.set(id, where);
  }
}

function linesOf(verb: 'add' | 'delete', elements: ReadonlyMap<string, string>): readonly string[] {
  const bySet = new Map<string, string[]>();
  for (const [id, where] of [...elements].sort()) {
    const text = id.slice(where.length + 1);
    const known = bySet.get(where);
    if (known) known.push(text);
    else bySet.set(where, [text]);
  }
  return [...bySet].map(([where, texts]) => `${verb} element ${where} { ${texts.join(', ')} }`);
}

interface Place {
  /** "table set". */
  readonly where: string;
  readonly text: string;
}

function placesOf(family: Family, { set, key, value }: Element): readonly Place[] {
  const text = (MAPS as readonly string[]).includes(set) ? `${key} : ${value}` : key;
  const own = { where: `${tableOf(family)} ${set}`, text };
  return set === 'virtual-addresses' && family === 4 ? [own, { where: `${ARP_TABLE} ${set}`, text }] : [own];
}
