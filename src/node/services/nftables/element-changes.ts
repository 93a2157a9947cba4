/** What one transaction changes in one table, and what a table holds beside the frontends themselves. */
import { blockTest, type Cidr, type Family, type IpAddress } from '../../../base/ip.ts';
import { type ElementChange, ElementColumns, textsOf } from '../../../linux/set-elements.ts';
import { chainOfCode, type DemandedChain, DISPATCH_ELEMENTS, renderChain } from './chains.ts';
import { DISPATCH_MAPS, type DispatchMap, ELEMENT_MAPS, type ElementMap, layoutOf, tableOf } from './schema.ts';

/** The element changes of one transaction in one table. */
export class ElementChanges {
  readonly family: Family;
  readonly #deletes = new Map<ElementMap, string[]>();
  readonly #adds = new Map<ElementMap, ElementColumns>();
  readonly #chains: DemandedChain[] = [];
  #size = 0;

  constructor(family: Family) {
    this.family = family;
  }

  /** Elements added and deleted. */
  get size(): number {
    return this.#size;
  }

  get isEmpty(): boolean {
    return this.#size === 0 && this.#chains.length === 0;
  }

  delete(map: ElementMap, key: string): void {
    this.#size++;
    const keys = this.#deletes.get(map);
    if (keys) keys.push(key);
    else this.#deletes.set(map, [key]);
  }

  add(map: ElementMap, key: string, value?: string | number): void {
    this.#columns(map).push(key, undefined, value);
  }

  /** Adds an element whose key is that of a frontend and a number: a slot or an id. */
  addNumbered(map: ElementMap, key: string, number: number, value: string | number): void {
    this.#columns(map).push(key, number, value);
  }

  #columns(map: ElementMap): ElementColumns {
    this.#size++;
    let columns = this.#adds.get(map);
    if (!columns) {
      columns = new ElementColumns();
      this.#adds.set(map, columns);
    }
    return columns;
  }

  demand(chain: DemandedChain): void {
    this.#chains.push(chain);
  }

  /** The elements to be added, sorted, by map. */
  additions(): ReadonlyMap<ElementMap, readonly string[]> {
    return new Map([...this.#adds].map(([map, elements]) => [map, elements.texts().toSorted()]));
  }

  /** nft commands that make the chains which the elements lead to. Nothing leads there before the elements do. */
  renderChains(order: 'as-is' | 'sorted' = 'as-is'): string {
    const chains = order === 'sorted' ? this.#chains.toSorted((a, b) => (a.name < b.name ? -1 : 1)) : this.#chains;
    return chains.map((chain) => renderChain(this.family, chain)).join('');
  }

  /** The way to the chains, all deletions, then all additions: one transaction. */
  elements(): readonly ElementChange[] {
    const { family } = this;
    const dispatch = this.#dispatch().map(
      ([map, elements]): ElementChange => ({
        op: 'add',
        set: layoutOf(family, map),
        elements,
      }),
    );
    const changes = [['delete', this.#deletes] as const, ['add', this.#adds] as const].flatMap(([op, lists]) =>
      ELEMENT_MAPS.flatMap((map): ElementChange[] => {
        const elements = lists.get(map);
        return elements ? [{ op, set: layoutOf(family, map), elements }] : [];
      }),
    );
    return [...dispatch, ...changes];
  }

  /** One transaction that leaves nothing but the additions in the maps, whatever they had. */
  replacement(): readonly ElementChange[] {
    const emptied = [...DISPATCH_MAPS, ...ELEMENT_MAPS].map(
      (map): ElementChange => ({ op: 'delete', set: layoutOf(this.family, map), elements: 'all' }),
    );
    const fixed: ElementChange = { op: 'add', set: layoutOf(this.family, 'dispatch'), elements: DISPATCH_ELEMENTS };
    return [...emptied, fixed, ...this.elements()];
  }

  /** All of it as nft commands, sorted, so that equal content is equal bytes. */
  render(): string {
    const command = (op: string, map: string, elements: readonly string[]) =>
      `${op} element ${tableOf(this.family)} ${map} { ${elements.toSorted().join(', ')} }\n`;
    const dispatch = this.#dispatch().map(([map, elements]) => command('add', map, elements));
    const changes = this.elements().flatMap(({ op, set, elements }) =>
      elements === 'all' || set.value === 'verdict' ? [] : [command(op, set.name, textsOf(elements))],
    );
    return [this.renderChains('sorted'), ...dispatch, ...changes].join('');
  }

  #dispatch(): readonly (readonly [DispatchMap, readonly string[]])[] {
    if (this.#chains.length === 0) return [];
    return DISPATCH_MAPS.flatMap((map) => {
      const elements = this.#chains.flatMap((chain) => (chain.map === map && chain.element ? [chain.element] : []));
      return elements.length > 0 ? [[map, elements] as const] : [];
    });
  }
}

/** Deletions that wait for the second transaction: keys by map. */
export class Leftovers {
  /** Left by earlier transactions: this one may delete them. */
  #due = new Map<ElementMap, Set<string>>();
  /** Left by the transaction that is being made. */
  #next = new Map<ElementMap, Set<string>>();

  get size(): number {
    return count(this.#due) + count(this.#next);
  }

  /** A transaction begins: what was left so far is due. */
  begin(): void {
    for (const [map, keys] of this.#next) for (const key of keys) put(this.#due, map, key);
    this.#next = new Map();
  }

  /** The slot of a frontend, by its key, is not counted any more. */
  add(map: ElementMap, key: string, slot: number): void {
    put(this.#next, map, `${key} . ${slot}`);
  }

  /** Takes one back: true if it was waiting, which means that the element is still in the kernel. */
  take(map: ElementMap, key: string, slot: number): boolean {
    const due = this.#due.get(map);
    return due !== undefined && due.size > 0 && due.delete(`${key} . ${slot}`);
  }

  /** The transaction is complete: deletes in it what is still due. */
  end(changes: ElementChanges): void {
    for (const [map, keys] of this.#due) for (const key of keys) changes.delete(map, key);
    this.#due = new Map();
  }
}

function put(lists: Map<ElementMap, Set<string>>, map: ElementMap, key: string): void {
  const keys = lists.get(map);
  if (keys) keys.add(key);
  else lists.set(map, new Set([key]));
}

function count(lists: ReadonlyMap<ElementMap, ReadonlySet<string>>): number {
  let size = 0;
  for (const keys of lists.values()) size += keys.size;
  return size;
}

/** What a table has beside the placements: chains made so far, elements shared by several frontends, leftovers. */
export class TableState {
  readonly family: Family;
  readonly leftovers = new Leftovers();
  readonly #serviceBlocks: readonly ((address: IpAddress) => boolean)[];
  readonly #chains = new Set<string>();
  readonly #codes = new Set<number>();
  readonly #shared = new Map<string, number>();

  constructor(family: Family, serviceCidrs: readonly Cidr[]) {
    this.family = family;
    this.#serviceBlocks = serviceCidrs.filter((cidr) => cidr.family === family).map(blockTest);
  }

  /** Whether the address is in one of the CIDRs that the table treats as ClusterIPs. */
  hasServiceAddress(address: IpAddress): boolean {
    return this.#serviceBlocks.some((holds) => holds(address));
  }

  /** Asks for a chain, unless the table has it. */
  demand(chain: DemandedChain | undefined, changes: ElementChanges): void {
    if (!chain || this.#chains.has(chain.name)) return;
    this.#chains.add(chain.name);
    changes.demand(chain);
  }

  /** Asks for the chain of a code, if it is not there and there is one. */
  demandCode(code: number, changes: ElementChanges): void {
    if (this.#codes.has(code)) return;
    this.#codes.add(code);
    this.demand(chainOfCode(this.family, code), changes);
  }

  /** An element that several frontends may want: there while anybody wants it. */
  share(map: ElementMap, key: string, changes: ElementChanges): void {
    const id = `${map} ${key}`;
    const users = this.#shared.get(id) ?? 0;
    this.#shared.set(id, users + 1);
    if (users === 0) changes.add(map, key);
  }

  unshare(map: ElementMap, key: string, changes: ElementChanges): void {
    const id = `${map} ${key}`;
    const users = this.#shared.get(id) ?? 0;
    if (users > 1) {
      this.#shared.set(id, users - 1);
      return;
    }
    this.#shared.delete(id);
    changes.delete(map, key);
  }
}
