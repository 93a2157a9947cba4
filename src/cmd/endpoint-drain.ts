/**
 * Lets a pod that is about to stop finish what Services send it: its containers are told to end only after no slice offers
 * it any more, and after every node has had the time to take it out of its rules.
 */
import { systemClock } from '../base/clock.ts';
import type { Informer } from '../kube/informer.ts';
import type { Pod } from '../kube/types.ts';

/** Longest wait for the slices, in milliseconds: a pod must end even when the slices' controller does not. */
const SLICES_MS = 2_000;
/** From a slice's change here to the same change in every node's rules, in milliseconds. */
const OTHER_NODES_MS = 150;
const POD_INDEX = 'drain: by pod';

/** For `PodManager.beforeStop`. */
export function endpointDrain(slices: Informer<'EndpointSlice'>): (pod: Pod) => Promise<void> {
  slices.addIndex(POD_INDEX, ({ endpoints }) =>
    (endpoints ?? []).flatMap(({ targetRef, conditions }) =>
      targetRef?.uid && conditions?.ready !== false ? [targetRef.uid] : [],
    ),
  );
  return async ({ metadata, spec }) => {
    if ((spec.terminationGracePeriodSeconds ?? 30) === 0) return;
    const isOffered = () => slices.byIndex(POD_INDEX, metadata.uid).length > 0;
    if (!isOffered() && !metadata.labels) return;
    const deadline = systemClock.now() + SLICES_MS;
    const wasOffered = isOffered();
    while (isOffered() && systemClock.now() < deadline) await systemClock.sleep(5);
    if (wasOffered) await systemClock.sleep(OTHER_NODES_MS);
  };
}
