/** Objects and a running fake cluster for the controllers' tests. Not used by the product. */
import { systemClock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import { FakeClient } from '../kube/fake-client.ts';
import type { Draft, Namespace, Node, Pod, PodStatus, ReplicaSet, Service } from '../kube/types.ts';
import { type ControllerContext, SharedInformers } from './informers.ts';

/** A context on a fresh fake API server; `client` with its extra abilities. */
export function fakeContext(client = new FakeClient()): ControllerContext & { readonly client: FakeClient } {
  const log = silentLogger;
  return { client, log, clock: systemClock, informers: new SharedInformers({ client, log }) };
}

/** Runs the body with a signal that is aborted when it ends, however it ends. */
export async function withSignal<T>(body: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  try {
    return await body(controller.signal);
  } finally {
    controller.abort();
  }
}

/** Waits until the check gives something truthy. Fails with the description after `timeoutMs`. */
export async function eventually<T>(
  what: string,
  check: () => T | Promise<T>,
  timeoutMs = 5000,
): Promise<NonNullable<T>> {
  const end = Date.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await check();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`never happened: ${what} (last: ${String(last)})`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Lets everything that is under way settle: for "nothing more happens". */
export async function settle(ms = 60): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

const epoch = '2026-01-01T00:00:00Z';
let serial = 0;

function stored(kind: string, apiVersion: string, name: string, namespace?: string) {
  const id = ++serial;
  const metadata = { name, uid: `uid-${name}-${id}`, resourceVersion: String(id), creationTimestamp: epoch };
  return { apiVersion, kind, metadata: namespace ? { ...metadata, namespace } : metadata };
}

export interface NodeShape {
  readonly ready?: 'True' | 'False' | 'Unknown';
  readonly labels?: Record<string, string>;
  readonly spec?: Node['spec'];
  readonly allocatable?: Record<string, string>;
}

export function node(name: string, shape: NodeShape = {}): Node {
  const object = stored('Node', 'v1', name);
  return {
    ...object,
    metadata: { ...object.metadata, labels: { 'kubernetes.io/hostname': name, ...shape.labels } },
    spec: shape.spec ?? {},
    status: {
      allocatable: shape.allocatable ?? { cpu: '4', memory: '8Gi', pods: '110' },
      conditions: [{ type: 'Ready', status: shape.ready ?? 'True', lastTransitionTime: epoch }],
    },
  };
}

export interface PodShape {
  readonly namespace?: string;
  readonly labels?: Record<string, string>;
  readonly spec?: Partial<Pod['spec']>;
  readonly status?: PodStatus;
  readonly metadata?: Partial<Pod['metadata']>;
}

export function pod(name: string, shape: PodShape = {}): Pod {
  const object = stored('Pod', 'v1', name, shape.namespace ?? 'default');
  const metadata = { ...object.metadata, ...(shape.labels ? { labels: shape.labels } : {}), ...shape.metadata };
  return {
    ...object,
    metadata: metadata as Pod['metadata'],
    spec: { containers: [{ name: 'main', image: 'nginx' }], ...shape.spec },
    ...(shape.status ? { status: shape.status } : {}),
  };
}

/** The status of a running pod with these addresses. */
export function running(ips: readonly string[], ready = true, since = epoch): PodStatus {
  return {
    phase: 'Running',
    podIP: ips[0],
    podIPs: ips.map((ip) => ({ ip })),
    conditions: [{ type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: since }],
  };
}

export function service(name: string, spec: Service['spec'], metadata: Partial<Service['metadata']> = {}): Service {
  const object = stored('Service', 'v1', name, metadata.namespace ?? 'default');
  return { ...object, metadata: { ...object.metadata, ...metadata } as Service['metadata'], spec };
}

export function namespace(name: string): Namespace {
  return { ...stored('Namespace', 'v1', name), spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' } };
}

export function replicaSetDraft(name: string, replicas: number, labels: Record<string, string>): Draft<ReplicaSet> {
  return {
    metadata: { name, namespace: 'default', labels },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: 'main', image: 'nginx' }] } },
    },
  };
}

/** A made-up object as something to create: the server gives it its own uid and version. */
export function draft<T extends Node | Pod | Service | Namespace>(object: T): T {
  const { uid: _uid, resourceVersion: _version, creationTimestamp: _time, ...metadata } = object.metadata;
  return { ...object, metadata } as unknown as T;
}
