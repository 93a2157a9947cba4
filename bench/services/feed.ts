/** A KubeClient whose lists are given and whose EndpointSlice watch is fed by the benchmark: nothing but events. */
import type { KubeClient, ListOptions, ObjectList, WatchOptions } from '../../src/kube/client.ts';
import type { EndpointSlice, KindMap, KindName, WatchEvent } from '../../src/kube/types.ts';

export class Feed implements Partial<KubeClient> {
  readonly #lists: { readonly [K in KindName]?: readonly KindMap[K][] };
  readonly #waiting: EndpointSlice[] = [];
  #wake: (() => void) | undefined;

  constructor(lists: { readonly [K in KindName]?: readonly KindMap[K][] }) {
    this.#lists = lists;
  }

  async list<K extends KindName>(kind: K, _options?: ListOptions): Promise<ObjectList<KindMap[K]>> {
    return { items: [...((this.#lists[kind] ?? []) as readonly KindMap[K][])], resourceVersion: '1' };
  }

  /** Hands a changed slice to the watch. */
  push(slice: EndpointSlice): void {
    this.#waiting.push(slice);
    this.#wake?.();
  }

  async *watch<K extends KindName>(kind: K, { signal }: WatchOptions): AsyncIterable<WatchEvent<KindMap[K]>> {
    while (!signal.aborted) {
      if (kind === 'EndpointSlice')
        for (let slice = this.#waiting.shift(); slice; slice = this.#waiting.shift())
          yield { type: 'MODIFIED', object: slice as unknown as KindMap[K] };
      await new Promise<void>((resolve) => {
        signal.addEventListener('abort', () => resolve(), { once: true });
        if (kind === 'EndpointSlice') this.#wake = resolve;
      });
    }
  }
}
