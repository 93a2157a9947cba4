/**
 * Which objects a controller owns: those that name it and match its selector. It adopts what matches and has no owner, and
 * releases what names it but no longer matches. Pure.
 */
import { matches, type Selector } from '../../kube/selectors.ts';
import type { OwnerReference, StoredMeta } from '../../kube/types.ts';
import { controllerOf } from '../owners.ts';

interface Claimable {
  readonly metadata: StoredMeta;
}

export interface Claims<T> {
  readonly owned: readonly T[];
  readonly adopt: readonly T[];
  readonly release: readonly T[];
}

export function claim<T extends Claimable>(objects: Iterable<T>, owner: Claimable, selector: Selector): Claims<T> {
  const owned: T[] = [];
  const adopt: T[] = [];
  const release: T[] = [];
  const ownerIsGoing = owner.metadata.deletionTimestamp !== undefined;
  for (const object of objects) {
    const controller = controllerOf(object);
    const fits = matches(selector, object.metadata.labels);
    const going = object.metadata.deletionTimestamp !== undefined;
    if (controller?.uid === owner.metadata.uid) {
      if (fits) owned.push(object);
      else if (!ownerIsGoing && !going) release.push(object);
    } else if (!controller && fits && !ownerIsGoing && !going) adopt.push(object);
  }
  return { owned, adopt, release };
}

/** The merge patch that adds an owner; uid and version make it fail on any other object than the one that was looked at. */
export function adoptionPatch(object: Claimable, owner: OwnerReference): object {
  const { uid, resourceVersion, ownerReferences = [] } = object.metadata;
  return { metadata: { uid, resourceVersion, ownerReferences: [...ownerReferences, owner] } };
}

/** The merge patch that removes the owner. */
export function releasePatch(object: Claimable, ownerUid: string): object {
  const { uid, resourceVersion, ownerReferences = [] } = object.metadata;
  const rest = ownerReferences.filter((owner) => owner.uid !== ownerUid);
  return { metadata: { uid, resourceVersion, ownerReferences: rest } };
}
