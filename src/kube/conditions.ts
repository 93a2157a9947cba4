/** Conditions in the status of Nodes, Pods and the like (metav1.Condition and its older kin). */

type ConditionStatus = 'True' | 'False' | 'Unknown';

interface Conditioned {
  readonly status?:
    | { readonly conditions?: readonly { readonly type: string; readonly status: string }[] | undefined }
    | undefined;
}

/** The condition of a type, if the object has it. */
export function conditionOf<C extends { readonly type: string }>(
  conditions: readonly C[] | undefined,
  type: string,
): C | undefined {
  return conditions?.find((condition) => condition.type === type);
}

/** A condition's status; an absent condition is Unknown. */
export function conditionStatus(object: Conditioned, type: string): ConditionStatus {
  return (conditionOf(object.status?.conditions, type)?.status as ConditionStatus | undefined) ?? 'Unknown';
}

/** Whether the condition Ready of a Node or a Pod is True. */
export function isReady(object: Conditioned): boolean {
  return conditionStatus(object, 'Ready') === 'True';
}
