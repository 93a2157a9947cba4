/** Owner references: who made an object and keeps it. */
import type { AnyObject } from '../kube/client.ts';
import type { OwnerReference } from '../kube/types.ts';

/** The one owner that manages the object. */
export function controllerOf(object: {
  readonly metadata: { readonly ownerReferences?: readonly OwnerReference[] };
}): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((owner) => owner.controller);
}

/** The reference that an object made by `owner` carries. */
export function controllerReference(owner: AnyObject): OwnerReference {
  return {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}
