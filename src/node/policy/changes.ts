/**
 * Changes of elements as transactions for the kernel. They are written without nft (`SetElements`): a lone change costs 0.1 ms,
 * also when there was none for a long time.
 *
 * Why two: a packet is judged by several lookups, and a commit may fall between them. What nothing refers to any more (the
 * elements of a class that no pod has, of an identity that no pod has) goes in a transaction after the one that took the
 * references away. So a packet that has read its old class still finds that class whole, and what is allowed before and
 * after a change is allowed during it.
 */
import type { ElementChange as SetChange } from '../../linux/set-elements.ts';
import type { ElementChange, Elements } from './elements.ts';
import { formatElement } from './render.ts';
import { layoutOf, type SetName, setDeclarations } from './sets.ts';

export interface Transaction {
  readonly writes: readonly SetChange[];
  /** How many elements are deleted or added. */
  readonly size: number;
  readonly changes: readonly ElementChange[];
}

/** One or two transactions, in order; none when nothing changes. Sorted: equal changes, equal bytes. */
export function transactionsOf(changes: readonly ElementChange[]): Transaction[] {
  const prompt = changes.filter((change) => !change.garbage);
  const garbage = changes.filter((change) => change.garbage);
  return [prompt, garbage].filter((part) => part.length > 0).map(transactionOf);
}

/** Deletions first: ranges that replace others in an interval set must not meet them. */
function transactionOf(changes: readonly ElementChange[]): Transaction {
  const deleted = writes('delete', changes, ({ key, before }) => (before === undefined ? undefined : key));
  const added = writes('add', changes, ({ key, after }) =>
    after === undefined ? undefined : formatElement(key, after),
  );
  const all = [...deleted, ...added];
  return { writes: all, size: sizeOf(all), changes };
}

function writes(
  op: SetChange['op'],
  changes: readonly ElementChange[],
  text: (change: ElementChange) => string | undefined,
): SetChange[] {
  const bySet = new Map<SetName, string[]>();
  for (const change of changes) {
    const element = text(change);
    if (element === undefined) continue;
    const list = bySet.get(change.set);
    if (list) list.push(element);
    else bySet.set(change.set, [element]);
  }
  return [...bySet]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([set, elements]) => ({ op, set: layoutOf(set), elements: elements.sort() }));
}

/** Everything, for a table whose sets are empty. */
export function loadOf(elements: Elements): Pick<Transaction, 'writes' | 'size'> {
  const all = Object.keys(setDeclarations).map((set): SetChange => {
    const texts = [...elements.entries(set)].map(([key, value]) => formatElement(key, value));
    return { op: 'add', set: layoutOf(set), elements: texts.sort() };
  });
  return { writes: all, size: sizeOf(all) };
}

function sizeOf(all: readonly SetChange[]): number {
  return all.reduce((sum, { elements }) => sum + elements.length, 0);
}
