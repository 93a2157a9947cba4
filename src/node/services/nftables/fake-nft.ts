/**
 * A stand-in for `Nftables` that knows just the commands podwire's Service rules are written in, and refuses what the kernel
 * refuses: deleting what is not there, adding one key with two values, leading to a chain that does not exist, elements
 * of another type than the set's. A failed transaction changes nothing. For tests without root;
 * test/netns/services-nft.test.ts asks the kernel the same questions.
 */
import { ERRNO, KernelError } from '../../../linux/errors.ts';
import { MessageWriter } from '../../../linux/netlink/writer.ts';
import { encodeTransaction } from '../../../linux/nftables/elements.ts';
import { type ElementChange, type SetLayout, textsOf } from '../../../linux/set-elements.ts';

type Elements = Map<string, string | undefined>;
interface Table {
  /** The types of sets as they were declared: "mark : verdict". */
  readonly types: Map<string, string>;
  readonly sets: Map<string, Elements>;
  readonly chains: Set<string>;
}

export class FakeNft {
  #tables = new Map<string, Table>();
  /** Every transaction that was applied, in order. */
  readonly transactions: string[] = [];
  /** Changes of elements; they are kept in `transactions` as the text that nft would have taken. */
  readonly elements = {
    commit: (changes: readonly ElementChange[]): void => this.#commit(changes),
    commitAsync: async (changes: readonly ElementChange[]): Promise<void> => this.#commit(changes),
  };
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

  #commit(changes: readonly ElementChange[]): void {
    encodeTransaction(new MessageWriter(), changes);
    for (const { set } of changes) {
      const declared = this.#tables.get(tableText(set))?.types.get(set.name);
      if (declared === undefined) throw refusal('ENOENT', `No such set ${set.name}`);
      if (declared !== typeText(set)) throw refusal('EINVAL', `${set.name} is of type ${declared}`);
    }
    this.run(changes.map(commandText).join(''));
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

const newTable = (): Table => ({ types: new Map(), sets: new Map(), chains: new Set() });

/** One line inside a table; true when it opens a chain. */
function applyBlockLine(table: Table, line: string): boolean {
  const set = /^(?:map|set) (\S+) \{ type ([^;]+);.*?(?:elements = \{ (.*?) \};)? \}$/.exec(line);
  const chain = /^chain (\S+) \{$/.exec(line);
  if (set) {
    const [, name, type, list] = set as unknown as [string, string, string, string | undefined];
    if ((table.types.get(name) ?? type) !== type) throw refusal('EEXIST', `File exists: ${name}`);
    table.types.set(name, type);
    const elements: Elements = table.sets.get(name) ?? new Map();
    for (const element of list?.split(', ') ?? []) addElement(elements, element);
    table.sets.set(name, elements);
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
    else if (!tables.has(name)) throw refusal('ENOENT', `No such table ${name}`);
    else if (verb === 'delete') tables.delete(name);
    return;
  }
  const table = tables.get(name);
  if (!table) throw refusal('ENOENT', `No such table ${name}`);
  if (kind === 'chain' && verb === 'flush') {
    if (!table.chains.has(object)) throw refusal('ENOENT', `No such chain ${object}`);
  } else if (verb === 'flush') {
    if (!table.sets.has(object)) throw refusal('ENOENT', `No such set ${object}`);
    table.sets.get(object)!.clear();
  } else if (kind === 'chain') table.chains.add(object);
  else if (kind === 'rule' && !table.chains.has(object)) throw refusal('ENOENT', `No such chain ${object}`);
  else if (kind === 'element') {
    const set = table.sets.get(object);
    if (!set) throw refusal('ENOENT', `No such set ${object}`);
    for (const element of elements.split(', ')) {
      if (verb === 'add') addElement(set, element);
      else if (!set.delete(element.split(' : ')[0]!)) throw refusal('ENOENT', `No such element ${object} ${element}`);
    }
  }
}

function addElement(set: Elements, text: string): void {
  const colon = text.indexOf(' : ');
  const key = colon < 0 ? text : text.slice(0, colon);
  const value = colon < 0 ? undefined : text.slice(colon + 3);
  if (set.has(key) && set.get(key) !== value) throw refusal('EEXIST', `File exists: ${text}`);
  set.set(key, value);
}

function checkJumps(tables: ReadonlyMap<string, Table>): void {
  for (const { sets, chains } of tables.values())
    for (const set of sets.values())
      for (const value of set.values()) {
        const target = /^(?:goto|jump) (\S+)$/.exec(value ?? '')?.[1];
        if (target !== undefined && !chains.has(target)) throw refusal('ENOENT', `No such chain ${target}`);
      }
}

function refusal(code: string, message: string): KernelError {
  return new KernelError('nft', ERRNO[code]!, message);
}

function tableText({ family, table }: SetLayout): string {
  return `${family === 4 ? 'ip' : 'ip6'} ${table}`;
}

function typeText({ key, value }: SetLayout): string {
  const values = value === undefined ? '' : ` : ${value === 'verdict' ? value : value.join(' . ')}`;
  return `${key.join(' . ')}${values}`;
}

function commandText({ op, set, elements }: ElementChange): string {
  const place = `${tableText(set)} ${set.name}`;
  if (elements === 'all') return `flush ${set.value ? 'map' : 'set'} ${place}\n`;
  return elements.length === 0 ? '' : `${op} element ${place} { ${textsOf(elements).join(', ')} }\n`;
}
