/** What a URL's path names. */

/** "/apis/apps/v1/namespaces/a/deployments/b/scale" and the like. */
export interface ResourcePath {
  readonly group: string;
  readonly version: string;
  readonly namespace: string | undefined;
  readonly plural: string;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

/** Undefined: the path names no resource (discovery, health …). Throws URIError on broken escapes. */
export function parseResourcePath(pathname: string): ResourcePath | undefined {
  const parts = pathname
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent);
  const rest = parts[0] === 'api' ? parts.slice(2) : parts[0] === 'apis' ? parts.slice(3) : [];
  if (rest.length === 0) return undefined;
  const group = parts[0] === 'api' ? '' : parts[1]!;
  const version = parts[0] === 'api' ? parts[1]! : parts[2]!;
  // "namespaces/a" is a namespace, "namespaces/a/status" its subresource, "namespaces/a/pods" a collection inside.
  const inside = rest[0] === 'namespaces' && rest.length > 2 && rest[2] !== 'status' && rest[2] !== 'finalize';
  const [plural = '', name, ...subresource] = inside ? rest.slice(2) : rest;
  return {
    group,
    version,
    namespace: inside ? rest[1] : undefined,
    plural,
    name,
    subresource: subresource.length > 0 ? subresource.join('/') : undefined,
  };
}
