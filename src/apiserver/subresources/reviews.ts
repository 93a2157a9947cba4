/** The self reviews behind `kubectl auth can-i` and `kubectl auth whoami`: created, answered, never stored. */

import { statusError } from '../../kube/status.ts';
import { isAllowed } from '../auth/authorize.ts';
import type { User } from '../auth/user.ts';
import type { VirtualResource } from '../discovery.ts';
import { isRecord } from '../schema/decode.ts';

export const reviewResources: readonly VirtualResource[] = [
  { group: 'authentication.k8s.io', version: 'v1', plural: 'selfsubjectreviews', kind: 'SelfSubjectReview' },
  { group: 'authorization.k8s.io', version: 'v1', plural: 'selfsubjectaccessreviews', kind: 'SelfSubjectAccessReview' },
];

export function answerReview(resource: VirtualResource, user: User, body: unknown): object {
  const head = { kind: resource.kind, apiVersion: `${resource.group}/${resource.version}`, metadata: {} };
  if (resource.kind === 'SelfSubjectReview') {
    const { name, groups, uid, extra } = user;
    const userInfo = { username: name, groups, ...(uid ? { uid } : {}), ...(extra ? { extra } : {}) };
    return { ...head, status: { userInfo } };
  }
  if (!isRecord(body) || !isRecord(body['spec'])) throw statusError('BadRequest', `a ${resource.kind} needs a spec`);
  const { spec } = body;
  const allowed = isAllowed(user, attributesOf(spec));
  return { ...head, spec, status: { allowed, ...(allowed ? {} : { reason: 'no rule of this cluster allows it' }) } };
}

function attributesOf(spec: Record<string, unknown>) {
  const text = (from: Record<string, unknown>, key: string) => (typeof from[key] === 'string' ? from[key] : '');
  const plain = isRecord(spec['nonResourceAttributes']) ? spec['nonResourceAttributes'] : undefined;
  if (plain) return { verb: text(plain, 'verb'), path: text(plain, 'path') };
  const resource = isRecord(spec['resourceAttributes']) ? spec['resourceAttributes'] : {};
  return {
    verb: text(resource, 'verb'),
    path: '',
    resource: {
      group: text(resource, 'group'),
      plural: text(resource, 'resource'),
      subresource: text(resource, 'subresource') || undefined,
    },
  };
}
