/**
 * Changes of elements as nftables transactions.
 *
 * Why two: a packet is judged by several lookups, and a commit may fall between them. What nothing refers to any more (the
 * elements of a class that no pod has, of an identity that no pod has) goes in a transaction after the one that took the
 * references away. So a packet that has read its old class still finds that class whole, and what is allowed before and
 * after a change is allowed during it.
 */
import { type ElementChange, tableName } from './elements.ts';
import { formatElement } from './render.ts';

/** Elements per statement: keeps single netlink messages of libnftables well below its buffers. */
const batch = 2000;

export interface Transaction {
  readonly text: string;
  readonly changes: readonly ElementChange[];
}

/** One or two transactions, in order; none when nothing changes. Sorted: equal changes, equal bytes. */
export function renderChanges(changes: readonly ElementChange[]): Transaction[] {
  const prompt = changes.filter((change) => !change.garbage);
  const garbage = changes.filter((change) => change.garbage);
  return [prompt, garbage]
    .filter((part) => part.length > 0)
    .map((part) => ({ text: renderTransaction(part), changes: part }));
}

/** Deletions first: ranges that replace others in an interval set must not meet them. */
function renderTransaction(changes: readonly ElementChange[]): string {
  const deleted = statements('delete', changes, ({ key, before }) => (before === undefined ? undefined : key));
  const added = statements('add', changes, ({ key, after }) =>
    after === undefined ? undefined : formatElement(key, after),
  );
  return [...deleted, ...added].join('');
}

function statements(
  verb: 'add' | 'delete',
  changes: readonly ElementChange[],
  text: (change: ElementChange) => string | undefined,
): string[] {
  const bySet = new Map<string, string[]>();
  for (const change of changes) {
    const element = text(change);
    if (element === undefined) continue;
    const list = bySet.get(change.set);
    if (list) list.push(element);
    else bySet.set(change.set, [element]);
  }
  const result: string[] = [];
  for (const [set, elements] of [...bySet].sort(([a], [b]) => (a < b ? -1 : 1))) {
    elements.sort();
    for (let i = 0; i < elements.length; i += batch) {
      result.push(`${verb} element inet ${tableName} ${set} { ${elements.slice(i, i + batch).join(', ')} }\n`);
    }
  }
  return result;
}
