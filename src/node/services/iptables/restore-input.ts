/** The input of `iptables-restore --noflush`: pure, from what a table has to what it is to have. */
import type { XtablesTable } from '../../../linux/xtables.ts';
import { type Hook, OWN_PREFIX } from './layout.ts';

export type Chains = ReadonlyMap<string, readonly string[]>;

/** One table's transaction. */
export class TableInput {
  readonly table: XtablesTable;
  readonly #declared: string[] = [];
  readonly #rules: string[] = [];
  readonly #deleted: string[] = [];
  /** Commands: rules, chains. */
  size = 0;

  constructor(table: XtablesTable) {
    this.table = table;
  }

  /** Makes a chain, or empties it, and fills it. */
  fill(chain: string, rules: readonly string[]): void {
    this.#declared.push(`:${chain} - [0:0]`);
    for (const rule of rules) this.#rules.push(`-A ${chain} ${rule}`);
    this.size += 1 + rules.length;
  }

  /** Deletes a chain to which no rule leads any more. */
  delete(chain: string): void {
    this.#declared.push(`:${chain} - [0:0]`);
    this.#deleted.push(`-X ${chain}`);
    this.size++;
  }

  command(...lines: readonly string[]): void {
    this.#rules.push(...lines);
    this.size += lines.length;
  }

  /** Brings one set of chains to another; those that are alike are not touched. */
  change(before: Chains, after: Chains): void {
    for (const [chain, rules] of after) if (!isSame(before.get(chain), rules)) this.fill(chain, rules);
    for (const chain of before.keys()) if (!after.has(chain)) this.delete(chain);
  }

  render(): string {
    if (this.size === 0) return '';
    return `*${this.table}\n${[...this.#declared, ...this.#rules, ...this.#deleted].join('\n')}\nCOMMIT\n`;
  }
}

function isSame(a: readonly string[] | undefined, b: readonly string[]): boolean {
  return a !== undefined && a.length === b.length && a.every((rule, i) => rule === b[i]);
}

/** The chains of ours in the output of `iptables-save`. */
export function ownChains(saved: string): readonly string[] {
  return [...saved.matchAll(/^:(\S+) -/gm)].map((match) => match[1]!).filter((chain) => chain.startsWith(OWN_PREFIX));
}

/** Whether the output of `iptables-save` has the hook, alone in its chain or among others. */
export function hasHook(saved: string, { chain, rule }: Hook): boolean {
  return saved.split('\n').includes(`-A ${chain} ${rule}`);
}
