/**
 * One version of an object as the server holds it: parsed once, encoded once; lists, gets and all watchers share the bytes.
 * Never mutated.
 */
import { apiVersionOf } from '../../kube/names.ts';
import type { Existing, Kind } from '../resources/kind.ts';

export type WatchType = 'ADDED' | 'MODIFIED' | 'DELETED';

export class StoredObject {
  readonly object: Existing;
  readonly revision: number;
  #json: Buffer | undefined;
  #versions: Map<string, StoredObject> | undefined;
  #frames: Partial<Record<WatchType, Buffer>> | undefined;

  /** The object carries its resourceVersion already. */
  constructor(object: Existing, revision: number) {
    this.object = object;
    this.revision = revision;
  }

  get namespace(): string | undefined {
    return this.object.metadata.namespace;
  }

  get name(): string {
    return this.object.metadata.name;
  }

  /** The object as JSON. */
  json(): Buffer {
    this.#json ??= Buffer.from(JSON.stringify(this.object));
    return this.#json;
  }

  /** The line of a watch that tells of this version. */
  frame(type: WatchType): Buffer {
    this.#frames ??= {};
    this.#frames[type] ??= Buffer.concat([Buffer.from(`{"type":"${type}","object":`), this.json(), Buffer.from('}\n')]);
    return this.#frames[type];
  }

  /** The same object in the version of the kind, for kinds that are served in several; made once. */
  in(kind: Kind): StoredObject {
    if (!kind.otherVersions) return this;
    const apiVersion = apiVersionOf(kind);
    if (this.object.apiVersion === apiVersion) return this;
    this.#versions ??= new Map();
    let converted = this.#versions.get(apiVersion);
    if (!converted) {
      converted = new StoredObject({ ...this.object, apiVersion }, this.revision);
      this.#versions.set(apiVersion, converted);
    }
    return converted;
  }

  /** The same object as it looks in the event of another revision: its deletion, or its leaving a selector. */
  at(revision: number): StoredObject {
    const metadata = { ...this.object.metadata, resourceVersion: String(revision) };
    return new StoredObject({ ...this.object, metadata }, revision);
  }
}

/** Objects that this process has just encoded, by their bytes, so that the store's event need not parse them again. */
const recentlyEncoded = new WeakMap<Uint8Array, Existing>();

/** The bytes that the store keeps: the object without its resourceVersion, which the store's revision is. */
export function encodeForStore(object: Existing): Uint8Array {
  const { resourceVersion: _, ...metadata } = object.metadata;
  const value = Buffer.from(JSON.stringify({ ...object, metadata }));
  recentlyEncoded.set(value, object);
  return value;
}

export function decodeStored(value: Uint8Array, revision: number): StoredObject {
  const object =
    recentlyEncoded.get(value) ??
    (JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.length).toString()) as Existing);
  const metadata = { ...object.metadata, resourceVersion: String(revision) };
  return new StoredObject({ ...object, metadata }, revision);
}
