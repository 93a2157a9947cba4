/**
 * iptables in memory for tests: understands the input that this mode writes and refuses what iptables refuses, such as a jump to a
 * chain that is not there, the deletion of a chain that is used, or of a rule that does not exist.
 */
import type { Family } from '../../../base/ip.ts';
import { XTABLES_TABLES, type XtablesTable } from '../../../linux/xtables.ts';
import type { XtablesPort } from './reconciler.ts';

const BUILT_IN: Readonly<Record<XtablesTable, readonly string[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
};

type Table = Map<string, string[]>;

export class FakeXtables implements XtablesPort {
  readonly #tables = new Map<string, Table>();
  /** Every input, with its family. */
  readonly inputs: { readonly family: Family; readonly input: string }[] = [];
  /** Thrown by the next restore, before anything happens. */
  failNext: Error | undefined;

  constructor() {
    for (const family of [4, 6])
      for (const table of XTABLES_TABLES)
        this.#tables.set(`${family} ${table}`, new Map(BUILT_IN[table].map((chain) => [chain, []])));
  }

  async restore(family: Family, input: string): Promise<void> {
    this.restoreNow(family, input);
  }

  restoreNow(family: Family, input: string): void {
    const failure = this.failNext;
    this.failNext = undefined;
    if (failure) throw failure;
    this.inputs.push({ family, input });
    for (const part of input.split('COMMIT\n').filter(Boolean)) this.#commit(family, part.trim().split('\n'));
  }

  #commit(family: Family, [head, ...lines]: readonly string[]): void {
    const key = `${family} ${head!.slice(1)}`;
    const table = structuredClone(this.#tables.get(key)!);
    for (const line of lines) runLine(table, line);
    for (const [chain, rules] of table)
      for (const rule of rules) {
        const target = /-j (KUBE-\S+)/.exec(rule)?.[1];
        if (target && !table.has(target)) throw new Error(`${chain}: no chain ${target}`);
      }
    this.#tables.set(key, table);
  }

  async save(family: Family, table: XtablesTable): Promise<string> {
    return this.saveNow(family, table);
  }

  saveNow(family: Family, table: XtablesTable): string {
    const chains = [...this.#tables.get(`${family} ${table}`)!].sort(([a], [b]) => (a < b ? -1 : 1));
    return [
      `*${table}`,
      ...chains.map(([chain]) => `:${chain} ${BUILT_IN[table].includes(chain) ? 'ACCEPT' : '-'}`),
      ...chains.flatMap(([chain, rules]) => rules.map((rule) => `-A ${chain} ${rule}`)),
      'COMMIT\n',
    ].join('\n');
  }

  extent(family: Family, table: XtablesTable): number {
    return this.saveNow(family, table).length;
  }

  /** Somebody flushes a table and deletes its chains. */
  flush(family: Family, table: XtablesTable): void {
    this.#tables.set(`${family} ${table}`, new Map(BUILT_IN[table].map((chain) => [chain, []])));
  }
}

function runLine(table: Table, line: string): void {
  const [word, chain, ...rest] = line.split(' ') as [string, string, ...string[]];
  if (word.startsWith(':')) {
    table.set(word.slice(1), []);
    return;
  }
  const rules = table.get(chain);
  if (!rules) throw new Error(`${line}: no such chain`);
  switch (word) {
    case '-A':
      rules.push(rest.join(' '));
      return;
    case '-I': {
      const at = Number(rest[0]);
      if (at > rules.length + 1) throw new Error(`${line}: index too big`);
      rules.splice(at - 1, 0, rest.slice(1).join(' '));
      return;
    }
    case '-D': {
      const at = rules.indexOf(rest.join(' '));
      if (at < 0) throw new Error(`${line}: no such rule`);
      rules.splice(at, 1);
      return;
    }
    case '-X': {
      const isUsed = [...table.values()].some((each) => each.some((rule) => rule.endsWith(`-j ${chain}`)));
      if (rules.length > 0 || isUsed) throw new Error(`${line}: the chain is in use`);
      table.delete(chain);
      return;
    }
    default:
      throw new Error(`${line}: not understood`);
  }
}
