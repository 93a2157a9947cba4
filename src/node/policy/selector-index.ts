/**
 * Finds the selectors that may match a set of labels without trying all of them: each is filed under one label value that
 * it demands. Selectors that demand none ("everything", NotIn, Exists …) are candidates for every label set.
 */
import type { Labels, Selector } from '../../kube/selectors.ts';

/** The label values ("key=value") of which one must be there, or undefined when the selector demands none. */
export function demandedLabels(selector: Selector): readonly string[] | undefined {
  for (const requirement of selector) {
    if (requirement.operator === 'In') return requirement.values.map((value) => labelText(requirement.key, value));
  }
  return undefined;
}

export function labelText(key: string, value: string): string {
  return `${key}=${value}`;
}

export class SelectorIndex<T> {
  /** Filed under scope and label; a scope is a namespace, or '' for all. */
  readonly #filed = new Map<string, Set<T>>();

  add(scope: string, selector: Selector, item: T): void {
    for (const place of placesOf(scope, selector)) {
      let items = this.#filed.get(place);
      if (!items) {
        items = new Set();
        this.#filed.set(place, items);
      }
      items.add(item);
    }
  }

  delete(scope: string, selector: Selector, item: T): void {
    for (const place of placesOf(scope, selector)) {
      const items = this.#filed.get(place);
      items?.delete(item);
      if (items?.size === 0) this.#filed.delete(place);
    }
  }

  /** Each candidate of the scope and of scope '', once. */
  *candidates(scope: string, labels: Labels): Generator<T> {
    const seen = new Set<T>();
    const texts = ['', ...Object.entries(labels).map(([key, value]) => labelText(key, value))];
    for (const each of scope ? [scope, ''] : ['']) {
      for (const text of texts) {
        for (const item of this.#filed.get(`${each} ${text}`) ?? []) {
          if (seen.has(item)) continue;
          seen.add(item);
          yield item;
        }
      }
    }
  }
}

function placesOf(scope: string, selector: Selector): string[] {
  return (demandedLabels(selector) ?? ['']).map((text) => `${scope} ${text}`);
}
