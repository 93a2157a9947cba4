/** The query parameters by which lists, watches and collection deletions choose: selectors, versions, limits. */
import { messageOf } from '../../base/errors.ts';
import { parseFieldSelector, parseSelector } from '../../kube/selectors.ts';
import { statusError } from '../../kube/status.ts';
import type { Query } from '../cache/kind-cache.ts';
import type { ApiRequest } from '../context.ts';
import type { Kind } from '../resources/kind.ts';

export function queryOf(request: ApiRequest): Query {
  const { kind, query, name } = request;
  const labels = parsed(() => parseSelector(query.get('labelSelector') ?? ''));
  const fields = [...parsed(() => parseFieldSelector(query.get('fieldSelector') ?? ''))];
  for (const { path } of fields) requireSelectable(kind, path);
  if (name !== undefined) fields.push({ path: 'metadata.name', operator: '=', value: name });
  const onlyNamespace = fields.find((field) => field.path === 'metadata.namespace' && field.operator === '=');
  return { namespace: request.namespace ?? (kind.namespaced ? onlyNamespace?.value : undefined), labels, fields };
}

function parsed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw statusError('BadRequest', messageOf(error));
  }
}

function requireSelectable(kind: Kind, path: string): void {
  if (path === 'metadata.name' || (path === 'metadata.namespace' && kind.namespaced)) return;
  if (kind.selectableFields?.includes(path)) return;
  throw statusError('BadRequest', `field label not supported: ${path}`);
}

/** The resourceVersion parameter; undefined when absent or empty. "0" means: any version will do. */
export function revisionOf(request: Pick<ApiRequest, 'query'>): number | undefined {
  const text = request.query.get('resourceVersion');
  if (!text) return undefined;
  if (!/^\d{1,15}$/.test(text)) {
    throw statusError(
      'BadRequest',
      `resourceVersion: Invalid value: ${JSON.stringify(text)}: strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  }
  return Number(text);
}

/** A non-negative number among the parameters. */
export function numberParameter(request: Pick<ApiRequest, 'query'>, name: string): number | undefined {
  const text = request.query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^-?\d{1,15}$/.test(text)) {
    throw statusError('BadRequest', `${name}: strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
  }
  return Number(text);
}

export function isTrue(request: Pick<ApiRequest, 'query'>, name: string): boolean {
  const value = request.query.get(name);
  return value === 'true' || value === '1';
}
