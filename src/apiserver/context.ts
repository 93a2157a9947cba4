/** What verbs work with: the server's core, and one request as it was understood. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { User } from './auth/user.ts';
import type { StoredObject } from './cache/stored-object.ts';
import type { WatchCache } from './cache/watch-cache.ts';
import type { Allocator, Existing, Kind, Lookup } from './resources/kind.ts';
import type { Storage } from './storage.ts';

export interface Api {
  readonly kinds: readonly Kind[];
  readonly cache: WatchCache;
  readonly storage: Storage;
  readonly lookup: Lookup;
  /** Pools by the plural of the kind whose objects hold their values. */
  readonly allocators: ReadonlyMap<string, Allocator>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** A request for a kind's collection or object. */
export interface ApiRequest {
  readonly method: string;
  readonly kind: Kind;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly user: User;
  /** Aborts when the client goes away or the server stops. */
  readonly signal: AbortSignal;
  /** The whole body; throws RequestEntityTooLarge. */
  body(): Promise<Buffer>;
  /** Adds a Warning header to the answer. */
  warn(text: string): void;
}

/** What a verb answers; the HTTP layer encodes it in the form that the client accepts. */
export type Answer =
  | { readonly type: 'object'; readonly code: number; readonly kind: Kind; readonly stored: StoredObject }
  | { readonly type: 'list'; readonly kind: Kind; readonly list: ListAnswer }
  /** Anything that is no stored object: Status, Scale, TokenRequest … */
  | { readonly type: 'json'; readonly code: number; readonly body: object };

export interface ListAnswer {
  readonly items: readonly StoredObject[];
  readonly revision: number;
  readonly continue?: string | undefined;
  readonly remaining?: number | undefined;
}

export const jsonAnswer = (body: object, code = 200): Answer => ({ type: 'json', code, body });
export const objectAnswer = (kind: Kind, stored: StoredObject, code = 200): Answer => ({
  type: 'object',
  code,
  kind,
  stored,
});

/** A copy that may be changed. */
export function copyOf<T extends Existing>(object: T): { -readonly [P in keyof T]: T[P] } {
  return structuredClone(object) as { -readonly [P in keyof T]: T[P] };
}
