/** What is to become of an object, judged by its owners. Pure. */
import type { AnyObject } from '../../kube/client.ts';
import type { OwnerReference } from '../../kube/types.ts';

export const foregroundFinalizer = 'foregroundDeletion';
export const orphanFinalizer = 'orphan';

/**
 * How an owner is: there; being deleted and waiting for its dependents; absent (gone, or another object has its name); or of
 * a kind that cannot be asked.
 */
export type OwnerState = 'present' | 'waiting' | 'absent' | 'unknown';

export type Verdict =
  | { readonly type: 'keep' }
  /** Some owners remain: the references to the others are dropped. */
  | { readonly type: 'detach'; readonly ownerReferences: readonly OwnerReference[] }
  | { readonly type: 'delete'; readonly propagationPolicy: 'Background' | 'Foreground' | 'Orphan' };

/** @param hasDependents whether the object itself owns others */
export function judge(
  object: AnyObject,
  stateOf: (owner: OwnerReference) => OwnerState,
  hasDependents: boolean,
): Verdict {
  const owners = object.metadata.ownerReferences ?? [];
  if (owners.length === 0) return { type: 'keep' };
  const states = owners.map(stateOf);
  const staying = owners.filter((_, i) => states[i] === 'present' || states[i] === 'unknown');
  if (staying.length > 0) {
    return staying.length === owners.length ? { type: 'keep' } : { type: 'detach', ownerReferences: staying };
  }
  // An owner that waits wants the whole tree below gone before it goes.
  if (states.includes('waiting') && hasDependents) return { type: 'delete', propagationPolicy: 'Foreground' };
  const finalizers = object.metadata.finalizers ?? [];
  if (finalizers.includes(orphanFinalizer)) return { type: 'delete', propagationPolicy: 'Orphan' };
  if (finalizers.includes(foregroundFinalizer)) return { type: 'delete', propagationPolicy: 'Foreground' };
  return { type: 'delete', propagationPolicy: 'Background' };
}
