/**
 * GET of a collection, from memory. Pages of a list all show the state at the first page's revision: while nothing changed
 * that is the memory's, afterwards the store is asked for the older state.
 */
import { statusError } from '../../kube/status.ts';
import { CompactedError, FutureRevisionError } from '../../store/contract.ts';
import { type Query, selects } from '../cache/kind-cache.ts';
import type { StoredObject } from '../cache/stored-object.ts';
import { storePrefix } from '../cache/watch-cache.ts';
import type { Answer, Api, ApiRequest, ListAnswer } from '../context.ts';
import { numberParameter, queryOf, revisionOf } from './selection.ts';

/** Where the next page begins: after this object, at this revision. */
interface Token {
  readonly revision: number;
  readonly namespace: string;
  readonly name: string;
}

export async function list(api: Api, request: ApiRequest): Promise<Answer> {
  const { kind } = request;
  const found = await listObjects(api, request);
  return {
    type: 'list',
    kind,
    list: kind.otherVersions ? { ...found, items: found.items.map((each) => each.in(kind)) } : found,
  };
}

async function listObjects(api: Api, request: ApiRequest): Promise<ListAnswer> {
  const query = queryOf(request);
  const limit = numberParameter(request, 'limit') ?? 0;
  const token = readToken(request.query.get('continue'));
  const asked = revisionOf(request);
  if (token && asked) throw statusError('BadRequest', 'specifying resource version is not allowed when using continue');
  const exact = request.query.get('resourceVersionMatch') === 'Exact';
  if (asked && !exact) await api.cache.waitFor(asked);
  const revision = token?.revision ?? (exact && asked ? asked : api.cache.revision);
  const matching = await stateAt(api, request, query, revision);
  const rest = token ? matching.filter((stored) => isAfter(stored, token)) : matching;
  if (limit <= 0 || rest.length <= limit) return { items: rest, revision };
  const items = rest.slice(0, limit);
  const last = items.at(-1)!;
  const remaining = query.labels.length > 0 || query.fields.length > 0 ? undefined : rest.length - limit;
  const next: Token = { revision, namespace: last.namespace ?? '', name: last.name };
  return { items, revision, continue: Buffer.from(JSON.stringify(next)).toString('base64url'), remaining };
}

async function stateAt(api: Api, request: ApiRequest, query: Query, revision: number): Promise<StoredObject[]> {
  if (revision === api.cache.revision) return api.cache.of(request.kind).list(query);
  try {
    const all = await api.storage.rangeAt(storePrefix(request.kind), revision);
    return all.filter((stored) => selects(query, stored));
  } catch (error) {
    if (error instanceof CompactedError || error instanceof FutureRevisionError) {
      throw statusError(
        'Expired',
        'The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.',
      );
    }
    throw error;
  }
}

function isAfter(stored: StoredObject, token: Token): boolean {
  const namespace = stored.namespace ?? '';
  return namespace > token.namespace || (namespace === token.namespace && stored.name > token.name);
}

function readToken(text: string | null): Token | undefined {
  if (!text) return undefined;
  try {
    const token = JSON.parse(Buffer.from(text, 'base64url').toString()) as Token;
    if (Number.isSafeInteger(token.revision) && typeof token.name === 'string' && typeof token.namespace === 'string')
      return token;
  } catch {
    // falls through to the one refusal
  }
  throw statusError('BadRequest', 'continue key is not valid: illegal base64 data');
}
