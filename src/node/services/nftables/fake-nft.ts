/**
 * A stand-in for `Nftables` that knows just the commands podwire's Service rules are written in, and refuses what the kernel
 * refuses: deleting what is not there, adding one key with two values, leading to a chain that does not exist. A failed
 * transaction changes nothing. For tests without root; the kernel itself is asked in test/netns.
 */

type Elements = Map<string, string | undefined>;
interface Table {
  readonly sets: Map<string, Elements>;
  readonly chains: Set<string>;
}

export class FakeNft {
  #tables = new Map<string, Table>();
  /** Every transaction that was applied, in order. */
  readonly transactions: string[] = [];
  /** Refuses the transactions for which this says why. */
  refuse: ((text: string) => string | undefined) | undefined;

  run(text: string): void {
    const reason = this.refuse?.(text);
    if (reason) throw new Error(reason);
    const tables = structuredClone(this.#tables);
    applyText(tables, text);
    checkJumps(tables);
    this.#tables = tables;
    this.transactions.push(text);
  }

  async runAsync(text: string): Promise<void> {
    this.run(text);
  }

  /** Only what the reconciler asks: one map's existence. */
  list(what: string): string {
    const [, family, name, map] = what.split(' ') as [string, string, string, string];
    const set = this.#tables.get(`${family} ${name}`)?.sets.get(map);
    if (!set) throw new Error('No such file or directory');
    return [...set].map(([key, value]) => (value === undefined ? key : `${key} : ${value}`)).join(', ');
  }

  /** Somebody else deletes everything. */
  flushRuleset(): void {
    this.#tables.clear();
  }

  /** The elements of the given sets of a table, as lines "set key : value", sorted. */
  listing(table: string, sets: readonly string[]): readonly string[] {
    const found = this.#tables.get(table);
    const lines = sets.flatMap((name) =>
      [...(found?.sets.get(name) ?? [])].map(
        ([key, value]) => `${name} ${key}${value === undefined ? '' : ` : ${value}`}`,
      ),
    );
    return lines.sort();
  }
}

function applyText(tables: Map<string, Table>, text: string): void {
  let open: string | undefined;
  let isInChain = false;
  for (const line of text.split('\n').map((each) => each.trim())) {
    if (open !== undefined) {
      if (line !== '}') isInChain = applyBlockLine(tables.get(open)!, line) || isInChain;
      else if (isInChain) isInChain = false;
      else open = undefined;
      continue;
    }
    const block = /^table (\S+ \S+) \{$/.exec(line);
    if (block) {
      open = block[1]!;
      tables.set(open, tables.get(open) ?? newTable());
    } else if (line !== '') applyCommand(tables, line);
  }
}

const newTable = (): Table => ({ sets: new Map(), chains: new Set() });

/** One line inside a table; true when it opens a chain. */
function applyBlockLine(table: Table, line: string): boolean {
  const set = /^(?:map|set) (\S+) \{.*?(?:elements = \{ (.*?) \};)? \}$/.exec(line);
  const chain = /^chain (\S+) \{$/.exec(line);
  if (set) {
    const elements: Elements = table.sets.get(set[1]!) ?? new Map();
    for (const element of set[2]?.split(', ') ?? []) addElement(elements, element);
    table.sets.set(set[1]!, elements);
  } else if (chain) table.chains.add(chain[1]!);
  return chain !== null;
}

function applyCommand(tables: Map<string, Table>, line: string): void {
  const match =
    /^(add|delete|flush) (table|chain|rule|element|map|set) (\S+ \S+)(?: (\S+))?(?: \{ (.*) \}| (.*))?$/.exec(line);
  if (!match) throw new Error(`syntax error: ${line.slice(0, 80)}`);
  const [, verb, kind, name, object, elements] = match as unknown as [string, string, string, string, string, string];
  if (kind === 'table') {
    if (verb === 'add') tables.set(name, tables.get(name) ?? newTable());
    else if (!tables.has(name)) throw new Error(`No such table ${name}`);
    else if (verb === 'delete') tables.delete(name);
    return;
  }
  const table = tables.get(name);
  if (!table) throw new Error(`No such table ${name}`);
  if (verb === 'flush') {
    if (!table.sets.has(object)) throw new Error(`No such set ${object}`);
    table.sets.get(object)!.clear();
  } else if (kind === 'chain') table.chains.add(object);
  else if (kind === 'rule' && !table.chains.has(object)) throw new Error(`No such chain ${object}`);
  else if (kind === 'element') {
    const set = table.sets.get(object);
    if (!set) throw new Error(`No such set ${object}`);
    for (const element of elements.split(', ')) {
      if (verb === 'add') addElement(set, element);
      else if (!set.delete(element)) throw new Error(`No such element ${object} ${element}`);
    }
  }
}

function addElement(set: Elements, text: string): void {
  const colon = text.indexOf(' : ');
  const key = colon < 0 ? text : text.slice(0, colon);
  const value = colon < 0 ? undefined : text.slice(colon + 3);
  if (set.has(key) && set.get(key) !== value) throw new Error(`File exists: ${text}`);
  set.set(key, value);
}

function checkJumps(tables: ReadonlyMap<string, Table>): void {
  for (const { sets, chains } of tables.values())
    for (const set of sets.values())
      for (const value of set.values()) {
        const target = /^(?:goto|jump) (\S+)$/.exec(value ?? '')?.[1];
        if (target !== undefined && !chains.has(target)) throw new Error(`No such chain ${target}`);
      }
}
