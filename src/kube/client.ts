/** What components may ask of a Kubernetes API server. `HttpClient` speaks to a real one, `FakeClient` keeps it in memory. */
import type { NamespacedName } from './names.ts';
import type { Draft, KindMap, KindName, KubeObject, WatchEvent } from './types.ts';

export interface ListOptions {
  /** All namespaces when absent. */
  readonly namespace?: string;
  /** The query-string form. */
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /**
   * What is done to each object that comes from the wire, before anybody has it; it may change the object. Clients that hand
   * out objects of their own leave it out.
   */
  readonly transform?: (object: AnyObject) => AnyObject;
}

export interface WatchOptions extends ListOptions {
  /** Changes after this version; the server's Expired status means: list again. */
  readonly resourceVersion: string;
  readonly signal: AbortSignal;
}

export interface ObjectList<T> {
  readonly items: T[];
  readonly resourceVersion: string;
}

/** The patch forms of RFC 6902, RFC 7386 and Kubernetes' own strategic merge. */
export type PatchType = 'json' | 'merge' | 'strategic';

export interface PatchOptions {
  readonly type?: PatchType;
  /** "status" …; the object itself when absent. */
  readonly subresource?: string;
}

export interface DeleteOptions {
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan';
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string };
}

/** Every method rejects with StatusError when the server refuses, and with a plain Error when it cannot be reached. */
export interface KubeClient {
  get<K extends KindName>(kind: K, at: NamespacedName): Promise<KindMap[K]>;
  list<K extends KindName>(kind: K, options?: ListOptions): Promise<ObjectList<KindMap[K]>>;
  create<K extends KindName>(kind: K, object: Draft<KindMap[K]>): Promise<KindMap[K]>;
  /** Replaces the object; Conflict when metadata.resourceVersion is not the current one. */
  update<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]>;
  updateStatus<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]>;
  /** PUT of another subresource that carries the whole object: "finalize" of a Namespace. */
  updateSubresource<K extends KindName>(kind: K, object: KindMap[K], subresource: string): Promise<KindMap[K]>;
  /** The default type is merge. */
  patch<K extends KindName>(kind: K, at: NamespacedName, patch: object, options?: PatchOptions): Promise<KindMap[K]>;
  delete(kind: KindName, at: NamespacedName, options?: DeleteOptions): Promise<void>;
  /** Binds a pod to a node through its binding subresource. */
  bind(pod: NamespacedName & { readonly uid?: string }, nodeName: string): Promise<void>;
  /** Ends when the signal aborts or the server closes; throws Expired when the version is too old. */
  watch<K extends KindName>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<KindMap[K]>>;
}

/** Any stored object by its kind's name: for code that works on all kinds. */
export type AnyObject = KubeObject & { readonly metadata: { readonly namespace?: string } };
