/**
 * The ConfigMaps and Secrets that this node's pods refer to: each is watched by its name as long as a pod holds it, so
 * that a change reaches mounted volumes at once and the API server is asked for nothing else.
 */
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/log.ts';
import type { KubeClient } from '../../kube/client.ts';
import { Informer } from '../../kube/informer.ts';
import type { ConfigMap, Secret } from '../../kube/types.ts';
import { ContainerConfigError } from './config-error.ts';
import type { ConfigLookup, ObjectReference } from './env/environment.ts';

export interface ConfigCacheOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  /** An object that this pod holds has changed. */
  readonly onChange: (podUid: string) => void;
}

/** How long a pod waits for the API server before it says so, in milliseconds. */
const SYNC_TIMEOUT_MS = 10_000;

interface Entry {
  readonly informer: Informer<'ConfigMap'> | Informer<'Secret'>;
  readonly controller: AbortController;
  readonly holders: Set<string>;
}

export class ConfigCache {
  readonly #options: ConfigCacheOptions;
  readonly #entries = new Map<string, Entry>();

  constructor(options: ConfigCacheOptions) {
    this.#options = options;
  }

  /**
   * Watches the objects for the pod, beside those it holds already, and resolves to a look at all of its namespace's
   * objects that are held, once each has been listed. Rejects with ContainerConfigError when the server does not answer.
   */
  async hold(podUid: string, namespace: string, references: readonly ObjectReference[]): Promise<ConfigLookup> {
    const entries = references.map((reference) => this.#entry(namespace, reference));
    for (const { holders } of entries) holders.add(podUid);
    const waiting = entries.filter(({ informer }) => !informer.hasSynced);
    if (waiting.length) await this.#synced(waiting);
    const find = <T>(kind: ObjectReference['kind'], name: string) =>
      this.#entries.get(entryKey(namespace, { kind, name }))?.informer.get(`${namespace}/${name}`) as T | undefined;
    return {
      configMap: (name) => find<ConfigMap>('ConfigMap', name),
      secret: (name) => find<Secret>('Secret', name),
    };
  }

  /** The pod is gone: what nobody else holds is not watched any more. */
  release(podUid: string): void {
    for (const [key, { holders, controller }] of this.#entries) {
      if (!holders.delete(podUid) || holders.size) continue;
      this.#entries.delete(key);
      controller.abort();
    }
  }

  /** Stops all watches. */
  close(): void {
    for (const { controller } of this.#entries.values()) controller.abort();
    this.#entries.clear();
  }

  #entry(namespace: string, reference: ObjectReference): Entry {
    const key = entryKey(namespace, reference);
    const known = this.#entries.get(key);
    if (known) return known;
    const { client, log, clock } = this.#options;
    const scope = { client, log, clock, namespace, fieldSelector: `metadata.name=${reference.name}` };
    const informer = reference.kind === 'ConfigMap' ? new Informer('ConfigMap', scope) : new Informer('Secret', scope);
    const entry: Entry = { informer, controller: new AbortController(), holders: new Set() };
    const tell = () => {
      if (informer.hasSynced) for (const uid of entry.holders) this.#options.onChange(uid);
    };
    informer.addHandler({ onAdd: tell, onUpdate: tell, onDelete: tell });
    this.#entries.set(key, entry);
    informer.start(entry.controller.signal).catch(() => {});
    return entry;
  }

  async #synced(entries: readonly Entry[]): Promise<void> {
    const timeout = Promise.withResolvers<void>();
    const timer = this.#options.clock.after(SYNC_TIMEOUT_MS, () =>
      timeout.reject(new ContainerConfigError('failed to sync configmap cache: timed out waiting for the condition')),
    );
    try {
      await Promise.race([Promise.all(entries.map(({ informer }) => informer.synced)), timeout.promise]);
    } finally {
      timer.cancel();
      timeout.promise.catch(() => {});
    }
  }
}

function entryKey(namespace: string, { kind, name }: ObjectReference): string {
  return `${kind}/${namespace}/${name}`;
}
