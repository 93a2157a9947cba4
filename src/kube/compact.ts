/**
 * Makes objects from the wire smaller, for informers that keep very many: what none of the node's components reads goes, and
 * equal parts become one. JSON.parse makes every string and object anew; in ten thousand slices most of them are the same
 * few names of nodes, zones and namespaces, and the same sets of conditions.
 */
import type { AnyObject } from './client.ts';
import type { EndpointSlice, SliceEndpoint } from './types.ts';

type Conditions = SliceEndpoint['conditions'];

/** One object for all conditions that are equal, by their JSON: eight of them, and as many as somebody invents. */
const conditions = new Map<string, Conditions>();
const strings = new Map<string, string>();
/** With more different values than this, values are no few names: the pool begins anew. */
const POOL_LIMIT = 10_000;

/** Changes and returns an object that nobody else has yet: for `ListOptions.transform`. */
export function compactObject<T extends AnyObject>(object: T): T {
  const metadata = object.metadata as unknown as Record<string, unknown>;
  // Not `delete`, which makes V8 keep the object in a slower and larger form.
  if (metadata['managedFields']) metadata['managedFields'] = undefined;
  share(metadata, 'namespace');
  const labels = metadata['labels'] as Record<string, unknown> | undefined;
  for (const key in labels) share(labels, key);
  if (object.kind === 'EndpointSlice') compactSlice(object as unknown as EndpointSlice);
  return object;
}

function compactSlice(slice: EndpointSlice): void {
  const metadata = slice.metadata as unknown as Record<string, unknown>;
  if (metadata['ownerReferences']) metadata['ownerReferences'] = undefined;
  for (const endpoint of slice.endpoints ?? []) {
    share(endpoint, 'nodeName');
    share(endpoint, 'zone');
    endpoint.conditions = pooled(endpoint.conditions);
    if (!endpoint.targetRef) continue;
    share(endpoint.targetRef, 'kind');
    share(endpoint.targetRef, 'namespace');
  }
}

/** Makes a property that is text the same string as equal text elsewhere. */
function share<T extends object>(object: T, key: keyof T): void {
  const text = object[key];
  if (typeof text === 'string') object[key] = sharedString(text) as T[keyof T];
}

function sharedString(text: string): string {
  const known = strings.get(text);
  if (known !== undefined) return known;
  if (strings.size >= POOL_LIMIT) strings.clear();
  strings.set(text, text);
  return text;
}

function pooled(own: Conditions): Conditions {
  if (!own) return own;
  const { ready, serving, terminating, ...rest } = own;
  if (Object.keys(rest).length > 0) return own;
  const id = `${ready}${serving}${terminating}`;
  const known = conditions.get(id);
  if (known) return known;
  conditions.set(id, Object.freeze(own));
  return own;
}
