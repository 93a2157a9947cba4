/**
 * Who may do what, until RBAC comes: administrators and the cluster's own components everything, service accounts read
 * (Secrets excepted), everybody the discovery of the API, and strangers only health and version.
 */
import { type StatusError, statusError } from '../../kube/status.ts';
import type { User } from './user.ts';

export interface Attributes {
  /** get, list, watch, create, update, patch, delete, deletecollection; or the lower-case method for a plain path. */
  readonly verb: string;
  /** Absent: `path` is no resource. */
  readonly resource?: {
    readonly group: string;
    readonly plural: string;
    readonly subresource?: string | undefined;
    readonly namespace?: string | undefined;
    readonly name?: string | undefined;
  };
  readonly path: string;
}

const PUBLIC_PATHS = /^\/(?:healthz|livez|readyz|version)(?:\/|$)/;
const DISCOVERY_PATHS =
  /^\/(?:$|api(?:\/[^/]+)?$|apis(?:\/[^/]+){0,2}$|openapi(?:\/|$)|metrics$|\.well-known\/|openid\/)/;
const ALL_POWERFUL_GROUPS = new Set(['system:masters', 'system:nodes']);
const READING = new Set(['get', 'list', 'watch']);
/** What everybody may ask about themselves. */
const SELF_REVIEWS = new Set(['selfsubjectaccessreviews', 'selfsubjectrulesreviews', 'selfsubjectreviews']);
/** Reading these gives power over pods. */
const STREAMING = new Set(['exec', 'attach', 'portforward']);

export function isAllowed(user: User, { verb, resource, path }: Attributes): boolean {
  if (user.groups.some((group) => ALL_POWERFUL_GROUPS.has(group)) || user.name.startsWith('system:kube-')) return true;
  if (!resource && PUBLIC_PATHS.test(path)) return verb === 'get' || verb === 'head';
  if (!user.groups.includes('system:authenticated')) return false;
  if (!resource) return DISCOVERY_PATHS.test(path) && (verb === 'get' || verb === 'head');
  if (SELF_REVIEWS.has(resource.plural) && verb === 'create') return true;
  if (!user.groups.includes('system:serviceaccounts')) return false;
  return READING.has(verb) && resource.plural !== 'secrets' && !STREAMING.has(resource.subresource ?? '');
}

/** The refusal in Kubernetes' words. */
export function forbidden(user: User, attributes: Attributes): StatusError {
  const { verb, resource, path } = attributes;
  const who = `User ${JSON.stringify(user.name)} cannot ${verb}`;
  if (!resource) return statusError('Forbidden', `forbidden: ${who} path ${JSON.stringify(path)}`, {});
  const plural = resource.group ? `${resource.plural}.${resource.group}` : resource.plural;
  const what = resource.name ? `${plural} ${JSON.stringify(resource.name)}` : plural;
  const full = resource.subresource ? `${resource.plural}/${resource.subresource}` : resource.plural;
  const where = resource.namespace
    ? ` in the namespace ${JSON.stringify(resource.namespace)}`
    : ' at the cluster scope';
  return statusError(
    'Forbidden',
    `${what} is forbidden: ${who} resource ${JSON.stringify(full)} in API group ${JSON.stringify(resource.group)}${where}`,
    {
      ...(resource.name ? { name: resource.name } : {}),
      ...(resource.group ? { group: resource.group } : {}),
      kind: resource.plural,
    },
  );
}
