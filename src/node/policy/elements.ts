/**
 * The kernel's sets and maps of the table `inet podwire-policy`, and an exact picture of what they shall hold. The model
 * writes elements here; whoever applies them takes the net difference since the last time.
 */
import { isIPv4 } from 'node:net';

export const tableName = 'podwire-policy';
/** The nftables log group to which denied packets are copied; any number that nobody else on a node uses. */
export const logGroup = 28791;

/** A set or map: its nftables declaration, without elements. */
export interface SetDeclaration {
  readonly kind: 'set' | 'map';
  /** The body of the declaration: "typeof … ; flags interval;". */
  readonly body: string;
}

const directions = ['ingress', 'egress'] as const;

function declarations(): Record<string, SetDeclaration> {
  const result: Record<string, SetDeclaration> = {
    identity4: { kind: 'map', body: 'type ipv4_addr : mark;' },
    identity6: { kind: 'map', body: 'type ipv6_addr : mark;' },
    self4: { kind: 'set', body: 'type ipv4_addr . ipv4_addr;' },
    self6: { kind: 'set', body: 'type ipv6_addr . ipv6_addr;' },
  };
  const set = (name: string, body: string) => {
    result[name] = { kind: 'set', body };
  };
  for (const direction of directions) {
    const address = direction === 'ingress' ? 'saddr' : 'daddr';
    result[`${direction}4`] = { kind: 'map', body: 'type ipv4_addr : classid;' };
    result[`${direction}6`] = { kind: 'map', body: 'type ipv6_addr : classid;' };
    const peer = 'typeof meta priority . meta mark';
    tierDeclarations(result, direction);
    // Looked up by packets that are dropped, and by no others: a found element counts.
    set(`denied_${direction}`, 'type classid; counter;');
    set(`tier_denied_${direction}`, 'type mark; counter;');
    set(`${direction}_any`, `${peer};`);
    set(`${direction}_protocol`, `${peer} . meta l4proto;`);
    set(`${direction}_port`, `${peer} . meta l4proto . th dport;`);
    set(`${direction}_range`, `${peer} . meta l4proto . th dport; flags interval;`);
    for (const [family, ip] of [
      ['4', 'ip'],
      ['6', 'ip6'],
    ] as const) {
      const block = `typeof meta priority . ${ip} ${address}`;
      set(`${direction}_block${family}`, `${block}; flags interval;`);
      set(`${direction}_blockport${family}`, `${block} . meta l4proto . th dport; flags interval;`);
      if (direction === 'egress') set(`egress_podport${family}`, `${block} . meta l4proto . th dport;`);
    }
  }
  return result;
}

/** The tiers of ClusterNetworkPolicy: maps to the verdicts of `tierCodes`. */
function tierDeclarations(result: Record<string, SetDeclaration>, direction: 'ingress' | 'egress'): void {
  const map = (name: string, body: string) => {
    result[name] = { kind: 'map', body };
  };
  const peer = 'typeof meta priority . meta mark';
  for (const tier of ['admin', 'baseline']) {
    map(`${tier}_${direction}4`, 'type ipv4_addr : classid;');
    map(`${tier}_${direction}6`, 'type ipv6_addr : classid;');
  }
  map(`tier_${direction}_any`, `${peer} : meta mark;`);
  map(`tier_${direction}_protocol`, `${peer} . meta l4proto : meta mark;`);
  map(`tier_${direction}_port`, `${peer} . meta l4proto . th dport : meta mark;`);
  map(`tier_${direction}_range`, `${peer} . meta l4proto . th dport : meta mark; flags interval;`);
  if (direction === 'ingress') return;
  for (const [family, ip] of [
    ['4', 'ip'],
    ['6', 'ip6'],
  ] as const) {
    const block = `typeof meta priority . ${ip} daddr`;
    map(`tier_egress_block${family}`, `${block} : meta mark; flags interval;`);
    map(`tier_egress_blockport${family}`, `${block} . meta l4proto . th dport : meta mark; flags interval;`);
  }
}

/** Every set and map by name, in the order of the rendered table. */
export const setDeclarations: Readonly<Record<string, SetDeclaration>> = declarations();
export type SetName = string;

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
