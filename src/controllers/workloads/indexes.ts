/** The indexes by which owners find their objects. */
import type { AnyObject } from '../../kube/client.ts';
import { controllerOf } from '../owners.ts';

/** By the uid of the object's controller. */
export const byController = 'controller';
/** By namespace, those that have no controller. */
export const orphans = 'orphans';

type Owned = Pick<AnyObject, 'metadata'>;

interface Indexed<T> {
  addIndex(name: string, valuesOf: (object: T) => readonly string[]): void;
}

export function addOwnerIndexes<T extends Owned>(target: Indexed<T>): void {
  target.addIndex(byController, (object) => {
    const controller = controllerOf(object);
    return controller ? [controller.uid] : [];
  });
  target.addIndex(orphans, (object) => (controllerOf(object) ? [] : [object.metadata.namespace ?? '']));
}
