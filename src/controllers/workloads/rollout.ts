/**
 * How many pods each ReplicaSet of a Deployment should have next. Pure; the rules are those of Kubernetes' deployment
 * controller, with one bound more: a step never goes below the minimum even when the old sets' statuses are behind, because
 * it counts what was asked for, less what the new set does not have ready.
 */
import type { Deployment, ReplicaSet } from '../../kube/types.ts';

export interface RolloutLimits {
  readonly replicas: number;
  readonly maxSurge: number;
  readonly maxUnavailable: number;
}

/** Sizes to set, by the set; sets that stay as they are do not appear. */
export type Scaling = ReadonlyMap<ReplicaSet, number>;

export const sizeOf = (set: ReplicaSet): number => set.spec.replicas ?? 1;
const availableOf = (set: ReplicaSet): number => set.status?.availableReplicas ?? 0;
const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);

export function rolloutLimits({ spec }: Deployment): RolloutLimits {
  const replicas = spec.replicas ?? 1;
  if (spec.strategy?.type === 'Recreate') return { replicas, maxSurge: 0, maxUnavailable: 0 };
  const maxSurge = absolute(spec.strategy?.rollingUpdate?.maxSurge ?? '25%', replicas, Math.ceil);
  const unavailable = absolute(spec.strategy?.rollingUpdate?.maxUnavailable ?? '25%', replicas, Math.floor);
  // Both zero would stand still: one pod may be missing then.
  const maxUnavailable = maxSurge === 0 && unavailable === 0 ? 1 : unavailable;
  return { replicas, maxSurge, maxUnavailable: Math.min(maxUnavailable, replicas) };
}

function absolute(value: number | string, replicas: number, round: (value: number) => number): number {
  if (typeof value === 'number') return value;
  const percent = /^(\d+)%$/.exec(value);
  return percent ? round((Number(percent[1]) * replicas) / 100) : Number(value) || 0;
}

const byAge = (a: ReplicaSet, b: ReplicaSet): number =>
  a.metadata.creationTimestamp < b.metadata.creationTimestamp
    ? -1
    : a.metadata.creationTimestamp > b.metadata.creationTimestamp
      ? 1
      : a.metadata.name < b.metadata.name
        ? -1
        : 1;

export const oldestFirst = (sets: readonly ReplicaSet[]): readonly ReplicaSet[] => [...sets].sort(byAge);

/** The size with which a new set begins, or to which it grows in one step. */
export function newSetSize(
  limits: RolloutLimits,
  recreate: boolean,
  current: number,
  others: readonly ReplicaSet[],
): number {
  if (recreate || current >= limits.replicas) return limits.replicas;
  const total = current + sum(others.map(sizeOf));
  const room = limits.replicas + limits.maxSurge - total;
  return room <= 0 ? current : current + Math.min(room, limits.replicas - current);
}

/** One step of a rolling update: the new set grows, or else the old ones shrink. */
export function rollingStep(deployment: Deployment, newSet: ReplicaSet, oldSets: readonly ReplicaSet[]): Scaling {
  const limits = rolloutLimits(deployment);
  const size = newSetSize(limits, false, sizeOf(newSet), oldSets);
  if (size !== sizeOf(newSet)) return new Map([[newSet, size]]);
  return shrinkOld(limits, newSet, oldSets);
}

function shrinkOld(limits: RolloutLimits, newSet: ReplicaSet, oldSets: readonly ReplicaSet[]): Scaling {
  const minAvailable = limits.replicas - limits.maxUnavailable;
  const newUnavailable = Math.max(0, sizeOf(newSet) - availableOf(newSet));
  let budget = sizeOf(newSet) + sum(oldSets.map(sizeOf)) - minAvailable - newUnavailable;
  const scaling = new Map<ReplicaSet, number>();
  const shrink = (set: ReplicaSet, most: number) => {
    const size = scaling.get(set) ?? sizeOf(set);
    const by = Math.max(0, Math.min(most, budget, size));
    if (by > 0) scaling.set(set, size - by);
    budget -= by;
    return by;
  };
  // Pods that do not serve go first: they cost nobody anything.
  for (const set of oldestFirst(oldSets)) shrink(set, sizeOf(set) - availableOf(set));
  let spare = availableOf(newSet) + sum(oldSets.map(availableOf)) - minAvailable;
  for (const set of oldestFirst(oldSets)) spare -= shrink(set, Math.max(0, spare));
  return scaling;
}

/** The Deployment's size has changed while several sets are at work: each grows or shrinks by its share. */
export function proportionalScaling(
  deployment: Deployment,
  newSet: ReplicaSet | undefined,
  oldSets: readonly ReplicaSet[],
  previousMax: (set: ReplicaSet) => number | undefined,
): Scaling {
  const limits = rolloutLimits(deployment);
  const all = newSet ? [newSet, ...oldSets] : [...oldSets];
  const active = all.filter((set) => sizeOf(set) > 0);
  const only = active.length <= 1 ? (active[0] ?? newSet ?? oldestFirst(oldSets).at(-1)) : undefined;
  if (only) return sizeOf(only) === limits.replicas ? new Map() : new Map([[only, limits.replicas]]);
  if (active.length === 0) return new Map();
  if (newSet && isSaturated(newSet, limits.replicas)) {
    return new Map(active.filter((set) => set !== newSet).map((set) => [set, 0]));
  }
  if (deployment.spec.strategy?.type === 'Recreate') return new Map();
  return shares(deployment, limits, active, previousMax);
}

function isSaturated(set: ReplicaSet, replicas: number): boolean {
  return sizeOf(set) === replicas && availableOf(set) === replicas;
}

function shares(
  deployment: Deployment,
  limits: RolloutLimits,
  active: readonly ReplicaSet[],
  previousMax: (set: ReplicaSet) => number | undefined,
): Scaling {
  const total = sum(active.map(sizeOf));
  const allowed = limits.replicas > 0 ? limits.replicas + limits.maxSurge : 0;
  const toAdd = allowed - total;
  const direction = toAdd >= 0 ? 1 : -1;
  // The largest first; of equal ones the newest grows and the oldest shrinks.
  const ordered = [...active].sort((a, b) => sizeOf(b) - sizeOf(a) || -direction * byAge(a, b));
  const sizes = new Map<ReplicaSet, number>();
  let added = 0;
  for (const set of ordered) {
    const left = toAdd - added;
    const share = limits.replicas === 0 ? -sizeOf(set) : shareOf(deployment, set, allowed, previousMax(set));
    const bounded = direction > 0 ? Math.max(0, Math.min(share, left)) : Math.min(0, Math.max(share, left));
    added += bounded;
    sizes.set(set, sizeOf(set) + bounded);
  }
  const [largest] = ordered;
  if (largest) sizes.set(largest, Math.max(0, sizes.get(largest)! + toAdd - added));
  return new Map([...sizes].filter(([set, size]) => size !== sizeOf(set)));
}

function shareOf(deployment: Deployment, set: ReplicaSet, allowed: number, previous: number | undefined): number {
  const before = previous || deployment.status?.replicas || allowed;
  return Math.round((sizeOf(set) * allowed) / before) - sizeOf(set);
}
