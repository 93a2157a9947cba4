/** POST serviceaccounts/{name}/token: TokenRequest (authentication.k8s.io/v1). */
import { statusError } from '../../kube/status.ts';
import type { ServiceAccountTokens } from '../auth/tokens.ts';
import { type Answer, type Api, type ApiRequest, jsonAnswer } from '../context.ts';
import { isRecord } from '../schema/decode.ts';
import { conflict } from '../storage.ts';
import { notFound as fieldNotFound, invalid, invalidError, path } from '../validation/field.ts';
import { parseBody } from '../verbs/body.ts';

const DEFAULT_SECONDS = 3600;
/** The shortest and the longest life that may be asked for, in seconds (Kubernetes: 10 minutes, 2^32). */
const MIN_SECONDS = 600;
const MAX_SECONDS = 2 ** 32;

export function tokenRequest(tokens: ServiceAccountTokens) {
  return async (api: Api, request: ApiRequest): Promise<Answer> => {
    const body = await parseBody(request);
    if (!isRecord(body)) throw statusError('BadRequest', 'a TokenRequest must be an object');
    const account = api.storage.get(request.kind, request.namespace, request.name!).object;
    const spec = isRecord(body['spec']) ? body['spec'] : {};
    const seconds = secondsOf(request, spec);
    const audiences = Array.isArray(spec['audiences']) ? spec['audiences'].map(String) : [];
    const { token, expires } = tokens.issue({
      namespace: request.namespace!,
      serviceAccount: { name: account.metadata.name, uid: account.metadata.uid },
      pod: podOf(api, request, spec['boundObjectRef'], account.metadata.name),
      audiences,
      seconds,
    });
    return jsonAnswer(
      {
        kind: 'TokenRequest',
        apiVersion: 'authentication.k8s.io/v1',
        metadata: {
          name: request.name,
          namespace: request.namespace,
          creationTimestamp: api.lookup.now().toISOString(),
        },
        spec: { ...spec, audiences: audiences.length > 0 ? audiences : [tokens.issuer], expirationSeconds: seconds },
        status: { token, expirationTimestamp: `${expires.toISOString().slice(0, 19)}Z` },
      },
      201,
    );
  };
}

const KIND = { group: 'authentication.k8s.io', kind: 'TokenRequest' };

function secondsOf(request: ApiRequest, spec: Record<string, unknown>): number {
  const asked = spec['expirationSeconds'] ?? DEFAULT_SECONDS;
  const at = path('spec.expirationSeconds');
  if (typeof asked !== 'number' || asked < MIN_SECONDS)
    throw invalidError(KIND, request.name!, [invalid(at, asked, 'may not specify a duration less than 10 minutes')]);
  if (asked > MAX_SECONDS)
    throw invalidError(KIND, request.name!, [
      invalid(at, asked, 'may not specify a duration larger than 2^32 seconds'),
    ]);
  return asked;
}

/** The pod that the token is bound to, if one is named. */
function podOf(api: Api, request: ApiRequest, reference: unknown, account: string) {
  if (!isRecord(reference)) return undefined;
  const at = path('spec.boundObjectRef');
  if (reference['kind'] !== 'Pod')
    throw invalidError(KIND, request.name!, [invalid(at.child('kind'), reference['kind'], 'only Pod is supported')]);
  const name = String(reference['name']);
  const pod = api.lookup.get('pods', request.namespace, name);
  if (!pod) throw invalidError(KIND, request.name!, [fieldNotFound(at.child('name'), name)]);
  const { uid } = pod.metadata;
  if (reference['uid'] && reference['uid'] !== uid)
    throw conflict(
      request.kind,
      name,
      `the UID in the bound object reference (${String(reference['uid'])}) does not match the UID in record. The object might have been deleted and then recreated`,
    );
  const spec = pod.spec as { serviceAccountName?: string; nodeName?: string };
  if (spec.serviceAccountName !== account)
    throw invalidError(KIND, request.name!, [
      invalid(
        at.child('name'),
        name,
        'cannot bind token for serviceaccount to pod running with different serviceaccount name.',
      ),
    ]);
  return { name, uid, nodeName: spec.nodeName };
}
