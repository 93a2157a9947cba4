/**
 * The part of an informer's objects that a predicate selects, as if it were an informer with a field selector of its own: an
 * object that begins to match is added, one that no longer matches is deleted. It costs no second watch and no second copy.
 */
import type { Informer, InformerHandler, InformerSource } from './informer.ts';
import type { KindMap, KindName } from './types.ts';

export class InformerView<K extends KindName> implements InformerSource<KindMap[K]> {
  readonly #source: Informer<K>;
  readonly #matches: (object: KindMap[K]) => boolean;

  constructor(source: Informer<K>, matches: (object: KindMap[K]) => boolean) {
    this.#source = source;
    this.#matches = matches;
  }

  get hasSynced(): boolean {
    return this.#source.hasSynced;
  }

  get size(): number {
    return [...this.list()].length;
  }

  get(key: string): KindMap[K] | undefined {
    const object = this.#source.get(key);
    return object && this.#matches(object) ? object : undefined;
  }

  *list(): IterableIterator<KindMap[K]> {
    for (const object of this.#source.list()) if (this.#matches(object)) yield object;
  }

  byIndex(index: string, value: string): readonly KindMap[K][] {
    return this.#source.byIndex(index, value).filter(this.#matches);
  }

  addHandler(handler: InformerHandler<KindMap[K]>): () => void {
    const matches = this.#matches;
    return this.#source.addHandler({
      onAdd(object) {
        if (matches(object)) handler.onAdd?.(object);
      },
      onUpdate(before, after) {
        if (!matches(after)) {
          if (matches(before)) handler.onDelete?.(before);
        } else if (matches(before)) handler.onUpdate?.(before, after);
        else handler.onAdd?.(after);
      },
      onDelete(object) {
        if (matches(object)) handler.onDelete?.(object);
      },
    });
  }

  /** Starts the source, which is harmless when it runs already. */
  start(signal: AbortSignal): Promise<void> {
    return this.#source.start(signal);
  }
}
