/**
 * What a kind is to the API server. A kind's file declares one `Kind`; verbs, discovery, OpenAPI, tables and watches follow
 * from it. Hooks are pure unless their name says otherwise, and run in the order in which they are written here.
 */
import type { ApiResource } from '../../kube/names.ts';
import type { ObjectMeta, StoredMeta } from '../../kube/types.ts';
import type { ObjectSchema } from '../schema/schema.ts';
import type { FieldErrors, Path } from '../validation/field.ts';

type Mutable<T> = { -readonly [P in keyof T]: T[P] };

/** Any object on its way through the server; hooks of a kind know more of it. */
export interface ApiObject {
  apiVersion: string;
  kind: string;
  metadata: Mutable<StoredMeta> & Mutable<ObjectMeta>;
  spec?: unknown;
  status?: unknown;
  [field: string]: unknown;
}

/** The same object, read only. */
export interface Existing extends Readonly<ApiObject> {
  readonly metadata: Readonly<ApiObject['metadata']>;
}

export interface Column {
  readonly name: string;
  readonly type?: 'string' | 'integer' | 'number' | 'boolean' | 'date';
  readonly format?: string;
  readonly description?: string;
  /** 0: always shown; 1: with -o wide. */
  readonly priority?: 0 | 1;
}

export type Cell = string | number | boolean;

/** What admission may look up while it prepares an object. */
export interface Lookup {
  get(plural: string, namespace: string | undefined, name: string): Existing | undefined;
  readonly now: () => Date;
  /** Lower-case letters and digits without vowels, as generated names have them. */
  readonly randomSuffix: () => string;
}

/** Something taken from a pool for an object, given back when the write fails. */
export interface Reservation {
  /** The write happened: what the old object held and the new one does not is given back. */
  commit(): void;
  rollback(): void;
}

/** Pools whose values objects hold (Service addresses and ports). Taken synchronously, before the write. */
export interface Allocator<T extends ApiObject = ApiObject> {
  /** Fills in the object; throws StatusError, having taken nothing. `old` is absent on create. */
  allocate(object: T, old: T | undefined): Reservation;
  release(object: T): void;
}

/** How a kind's subresources differ from the kind itself. */
export interface StatusRules<T extends ApiObject> {
  /** Errors of a status update, besides the schema's own. */
  validate?(object: T, old: T): FieldErrors;
}

/** Maps a kind to and from autoscaling/v1 Scale. */
export interface ScaleRules<T extends ApiObject> {
  replicas(object: T): number;
  statusReplicas(object: T): number;
  selector(object: T): string;
  setReplicas(object: T, replicas: number): void;
}

export interface Kind<T extends ApiObject = ApiObject> extends ApiResource {
  readonly singular: string;
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  readonly schema: ObjectSchema;
  /** Versions with the same fields that are served from the same stored objects, each by a `Kind` of its own. */
  readonly otherVersions?: readonly string[];

  readonly columns: readonly Column[];
  /** The cells of a row, one for each column. */
  row(object: T, now: number): readonly Cell[];

  /** Fields besides metadata.name and metadata.namespace that field selectors may name. */
  readonly selectableFields?: readonly string[];
  /** The selectable field by which watchers are kept apart, so that a change reaches only those it concerns. */
  readonly watchIndex?: string;

  /** Defaults that depend on other fields; constant ones stand in the schema. */
  applyDefaults?(object: T): void;
  /** Admission on create: may change the object and throw StatusError. */
  admit?(object: T, lookup: Lookup): void;
  /** Resets what clients may not set on create. Status is dropped before, unless `keepsStatusOnCreate`. */
  prepareForCreate?(object: T): void;
  /** Carries over what clients may not change. Status is carried over before. */
  prepareForUpdate?(object: T, old: T): void;
  validateName?(name: string): readonly string[];
  validate?(object: T, at: Path): FieldErrors;
  validateUpdate?(object: T, old: T, at: Path): FieldErrors;
  /** Texts for the Warning header. */
  warnings?(object: T): readonly string[];

  /** The kind has a status subresource. */
  readonly status?: StatusRules<T>;
  readonly scale?: ScaleRules<T>;
  /** Subresources with their own handlers: "binding", "token" …, with the verbs that discovery names. */
  readonly extraSubresources?: readonly Subresource[];
  /** metadata.generation counts changes of everything but metadata and status. */
  readonly countsGenerations?: boolean;
  /** PUT creates what is not there. */
  readonly createsOnUpdate?: boolean;
  /** PUT needs metadata.resourceVersion. */
  readonly needsVersionOnUpdate?: boolean;
  readonly keepsStatusOnCreate?: boolean;
  /** A DELETE that removes at once answers with the object rather than a Status. */
  readonly returnsDeleted?: boolean;
  /**
   * Seconds until a deleted object may vanish; undefined: at once. `asked` is what the client wants, undefined when it
   * did not say.
   */
  gracePeriodSeconds?(object: T, asked: number | undefined): number | undefined;
  /** Why an object may never be deleted; undefined: it may. */
  protectedFromDeletion?(object: T): string | undefined;
  /** Changes the object when graceful deletion begins. */
  beginDeletion?(object: T): void;
  /** Whether the object may vanish now; false keeps it as deleting (a Namespace with finalizers in its spec). */
  mayVanish?(object: T): boolean;
}

export interface Subresource {
  readonly name: string;
  readonly kind: string;
  readonly group?: string;
  readonly version?: string;
  readonly verbs: readonly string[];
}

/** Hooks are declared with their kind's own type; the server handles all kinds alike. */
export function defineKind<T extends ApiObject>(kind: Omit<Kind<T>, 'singular'> & { singular?: string }): Kind {
  return { ...kind, singular: kind.singular ?? kind.kind.toLowerCase() } as unknown as Kind;
}

/** A kind's typed object with fields that its hooks may change. */
export type Draftable<T> = ApiObject & DeepMutable<Omit<T, 'metadata' | 'apiVersion' | 'kind'>>;

type DeepMutable<T> = T extends (infer I)[]
  ? DeepMutable<I>[]
  : T extends object
    ? { -readonly [P in keyof T]: DeepMutable<T[P]> }
    : T;
