/**
 * What clients send besides objects of the registered kinds: options, and the bodies of subresources and reviews. Their
 * handlers read untyped JSON; these schemas are for what comes in protobuf.
 */

import { ObjectReference } from '../resources/references.ts';
import { LabelSelectorRequirement, ObjectMeta } from '../schema/meta.ts';
import { boolean, int32, int64, list, object, type Schema, string, strings, time, wire } from '../schema/schema.ts';

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';

/** All of these begin with metadata. */
const body = (name: string, fields: Readonly<Record<string, Schema>>) =>
  object(name, { metadata: wire(1, ObjectMeta), ...fields });

const DeleteOptions = object(`${META}.DeleteOptions`, {
  gracePeriodSeconds: wire(1, int64({ keep: true })),
  preconditions: wire(
    2,
    object(`${META}.Preconditions`, {
      uid: wire(1, string({ keep: true })),
      resourceVersion: wire(2, string({ keep: true })),
    }),
  ),
  orphanDependents: wire(3, boolean({ keep: true })),
  propagationPolicy: wire(4, string({ keep: true })),
  dryRun: wire(5, strings()),
  ignoreStoreReadErrorWithClusterBreakingPotential: wire(6, boolean({ keep: true })),
});

const Binding = body('io.k8s.api.core.v1.Binding', { target: wire(2, ObjectReference) });

const Eviction = body('io.k8s.api.policy.v1.Eviction', { deleteOptions: wire(2, DeleteOptions) });

const Scale = body('io.k8s.api.autoscaling.v1.Scale', {
  spec: wire(2, object('io.k8s.api.autoscaling.v1.ScaleSpec', { replicas: wire(1, int32()) })),
  status: wire(
    3,
    object('io.k8s.api.autoscaling.v1.ScaleStatus', {
      replicas: wire(1, int32({ keep: true })),
      selector: wire(2, string()),
    }),
  ),
});

const AUTHENTICATION = 'io.k8s.api.authentication.v1';

const TokenRequest = body(`${AUTHENTICATION}.TokenRequest`, {
  spec: wire(
    2,
    object(`${AUTHENTICATION}.TokenRequestSpec`, {
      audiences: wire(1, strings()),
      expirationSeconds: wire(4, int64({ keep: true })),
      boundObjectRef: wire(
        3,
        object(`${AUTHENTICATION}.BoundObjectReference`, {
          kind: wire(1, string()),
          apiVersion: wire(2, string()),
          name: wire(3, string()),
          uid: wire(4, string()),
        }),
      ),
    }),
  ),
  status: wire(
    3,
    object(`${AUTHENTICATION}.TokenRequestStatus`, {
      token: wire(1, string({ keep: true })),
      expirationTimestamp: wire(2, time()),
    }),
  ),
});

const SelfSubjectReview = body(`${AUTHENTICATION}.SelfSubjectReview`, {});

const AUTHORIZATION = 'io.k8s.api.authorization.v1';

const ResourceAttributes = object(`${AUTHORIZATION}.ResourceAttributes`, {
  namespace: wire(1, string()),
  verb: wire(2, string()),
  group: wire(3, string()),
  version: wire(4, string()),
  resource: wire(5, string()),
  subresource: wire(6, string()),
  name: wire(7, string()),
  fieldSelector: wire(
    8,
    object(`${AUTHORIZATION}.FieldSelectorAttributes`, {
      rawSelector: wire(1, string()),
      requirements: wire(2, list(LabelSelectorRequirement)),
    }),
  ),
  labelSelector: wire(
    9,
    object(`${AUTHORIZATION}.LabelSelectorAttributes`, {
      rawSelector: wire(1, string()),
      requirements: wire(2, list(LabelSelectorRequirement)),
    }),
  ),
});

const SelfSubjectAccessReview = body(`${AUTHORIZATION}.SelfSubjectAccessReview`, {
  spec: wire(
    2,
    object(`${AUTHORIZATION}.SelfSubjectAccessReviewSpec`, {
      resourceAttributes: wire(1, ResourceAttributes),
      nonResourceAttributes: wire(
        2,
        object(`${AUTHORIZATION}.NonResourceAttributes`, { path: wire(1, string()), verb: wire(2, string()) }),
      ),
    }),
  ),
});

export const bodies = [
  DeleteOptions,
  Binding,
  Eviction,
  Scale,
  TokenRequest,
  SelfSubjectReview,
  SelfSubjectAccessReview,
] as const;
