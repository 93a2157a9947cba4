/** What the workload controllers share in watching and adopting the objects they own. */
import type { KubeClient } from '../../kube/client.ts';
import type { Informer } from '../../kube/informer.ts';
import { keyOf } from '../../kube/names.ts';
import { fromLabelSelector, matches } from '../../kube/selectors.ts';
import { isNotFound } from '../../kube/status.ts';
import type { Deployment, KindMap, ReplicaSet } from '../../kube/types.ts';
import { controllerOf } from '../owners.ts';

interface OwnerKinds {
  readonly Deployment: Deployment;
  readonly ReplicaSet: ReplicaSet;
}

/**
 * Tells, for every change of an owned object, the keys of the owners that it may concern: its controller before and after,
 * or, of an orphan, whoever selects it and may want it.
 */
export class OwnerLookup<K extends keyof OwnerKinds> {
  readonly #kind: K;
  readonly #owners: Informer<K>;
  readonly #add: (key: string) => void;

  constructor(kind: K, owners: Informer<K>, add: (key: string) => void) {
    this.#kind = kind;
    this.#owners = owners;
    this.#add = add;
  }

  /** Watches the owned objects. */
  watch<O extends 'Pod' | 'ReplicaSet'>(owned: Informer<O>): void {
    owned.addHandler({
      onAdd: (object) => this.changed(object),
      onUpdate: (before, object) => {
        if (controllerOf(before)?.uid !== controllerOf(object)?.uid) this.changed(before);
        this.changed(object);
      },
      onDelete: (object) => this.changed(object),
    });
  }

  changed(object: KindMap['Pod' | 'ReplicaSet']): void {
    const controller = controllerOf(object);
    const { namespace, labels } = object.metadata;
    if (controller) {
      if (controller.kind === this.#kind) this.#add(keyOf({ namespace, name: controller.name }));
      return;
    }
    for (const owner of this.#owners.list() as Iterable<OwnerKinds[K]>) {
      if (owner.metadata.namespace !== namespace) continue;
      if (matches(fromLabelSelector(owner.spec.selector), labels)) this.#add(keyOf(owner));
    }
  }
}

/** Asks the server: a copy that is behind must not adopt for an owner that is gone. */
export async function isStillThere(
  client: KubeClient,
  kind: keyof OwnerKinds,
  owner: OwnerKinds[keyof OwnerKinds],
): Promise<boolean> {
  try {
    const { metadata } = await client.get(kind, owner.metadata);
    return metadata.uid === owner.metadata.uid && !metadata.deletionTimestamp;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}
