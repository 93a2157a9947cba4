/** The informers that all controllers of a process share: one list and one watch per kind. */
import { type Clock, systemClock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { Startable } from '../base/startable.ts';
import type { KubeClient } from '../kube/client.ts';
import { Informer } from '../kube/informer.ts';
import type { KindName } from '../kube/types.ts';

/** What every controller is given. */
export interface ControllerContext {
  readonly client: KubeClient;
  readonly informers: SharedInformers;
  readonly log: Logger;
  readonly clock: Clock;
}

export class SharedInformers implements Startable {
  readonly #options: { readonly client: KubeClient; readonly log: Logger; readonly clock: Clock };
  readonly #informers = new Map<KindName, Informer<KindName>>();

  constructor(options: { readonly client: KubeClient; readonly log: Logger; readonly clock?: Clock }) {
    this.#options = { ...options, clock: options.clock ?? systemClock };
  }

  /** The informer of a kind, made when first asked for. */
  of<K extends KindName>(kind: K): Informer<K> {
    let informer = this.#informers.get(kind) as Informer<K> | undefined;
    if (!informer) {
      informer = new Informer(kind, this.#options);
      this.#informers.set(kind, informer as unknown as Informer<KindName>);
    }
    return informer;
  }

  /** Starts those asked for so far; resolves when all have synced. */
  async start(signal: AbortSignal): Promise<void> {
    await Promise.all([...this.#informers.values()].map((informer) => informer.start(signal)));
  }
}
