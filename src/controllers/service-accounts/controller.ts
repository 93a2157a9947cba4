/**
 * What every namespace has: the ServiceAccount `default`, and the ConfigMap `kube-root-ca.crt` with the certificate by which
 * pods trust the API server. Both come back when someone removes or changes them.
 */
import type { Startable } from '../../base/startable.ts';
import { WorkQueue } from '../../base/work-queue.ts';
import { parseKey } from '../../kube/names.ts';
import { isAlreadyExists } from '../../kube/status.ts';
import type { ControllerContext } from '../informers.ts';
import { tolerant } from '../reconciling.ts';

const accountName = 'default';
export const rootCaConfigMap = 'kube-root-ca.crt';
const description =
  'Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal ' +
  'service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.';

export interface NamespaceDefaultsOptions {
  /** The cluster's CA in PEM form; without it no ConfigMap is made. */
  readonly rootCa?: string;
}

export class NamespaceDefaults implements Startable {
  readonly #context: ControllerContext;
  readonly #rootCa: string | undefined;
  readonly #queue: WorkQueue;

  constructor(context: ControllerContext, options: NamespaceDefaultsOptions) {
    const { log, clock, informers } = context;
    this.#context = context;
    this.#rootCa = options.rootCa;
    this.#queue = new WorkQueue({
      name: 'namespace-defaults',
      log,
      clock,
      workers: 4,
      reconcile: tolerant((namespace) => this.#reconcile(namespace)),
    });
    informers.of('Namespace').addHandler({
      onAdd: ({ metadata }) => this.#queue.add(metadata.name),
      onUpdate: (_, { metadata }) => this.#queue.add(metadata.name),
    });
    const changed = ({ metadata }: { metadata: { name: string; namespace: string } }) => {
      if (metadata.name === accountName || metadata.name === rootCaConfigMap) this.#queue.add(metadata.namespace);
    };
    informers.of('ServiceAccount').addHandler({ onDelete: changed });
    informers.of('ConfigMap').addHandler({ onUpdate: (_, map) => changed(map), onDelete: changed });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#context;
    await Promise.all([
      informers.of('Namespace').start(signal),
      informers.of('ServiceAccount').start(signal),
      informers.of('ConfigMap').start(signal),
    ]);
    this.#queue.start(signal);
  }

  async #reconcile(namespace: string): Promise<void> {
    const object = this.#context.informers.of('Namespace').get(namespace);
    if (!object || object.metadata.deletionTimestamp || object.status?.phase === 'Terminating') return;
    await this.#ensureAccount(namespace);
    if (this.#rootCa !== undefined) await this.#ensureRootCa(namespace, this.#rootCa);
  }

  async #ensureAccount(namespace: string): Promise<void> {
    const { client, informers } = this.#context;
    if (informers.of('ServiceAccount').get(`${namespace}/${accountName}`)) return;
    try {
      await client.create('ServiceAccount', { metadata: { name: accountName, namespace } });
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
  }

  async #ensureRootCa(namespace: string, rootCa: string): Promise<void> {
    const { client, informers } = this.#context;
    const key = `${namespace}/${rootCaConfigMap}`;
    const existing = informers.of('ConfigMap').get(key);
    const data = { 'ca.crt': rootCa };
    if (existing) {
      const right = existing.data?.['ca.crt'] === rootCa && Object.keys(existing.data).length === 1;
      if (!right) await client.update('ConfigMap', { ...existing, data });
      return;
    }
    const annotations = { 'kubernetes.io/description': description };
    try {
      await client.create('ConfigMap', { metadata: { ...parseKey(key), annotations }, data });
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
  }
}
