/**
 * What Kubernetes' admission plugins do to a new pod: ServiceAccount (account name and token volume), DefaultTolerationSeconds,
 * and Priority.
 */

import { statusError } from '../../kube/status.ts';
import type { Pod, ServiceAccount } from '../../kube/types.ts';
import type { Draftable, Lookup } from './kind.ts';
import type { PodSpecDraft } from './pod-defaults.ts';

const TOKEN_MOUNT_PATH = '/var/run/secrets/kubernetes.io/serviceaccount';
/** A little more than an hour, so that nodes refresh it well before (BoundServiceAccountTokenVolume). */
const TOKEN_SECONDS = 3607;
const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror';

export function admitPod(pod: Draftable<Pod>, lookup: Lookup): void {
  const mirror = pod.metadata.annotations?.[MIRROR_ANNOTATION] !== undefined;
  if (!mirror) admitServiceAccount(pod, lookup);
  pod.spec.priority ??= 0;
  pod.spec.preemptionPolicy ??= 'PreemptLowerPriority';
  tolerateForAWhile(pod.spec, 'node.kubernetes.io/not-ready');
  tolerateForAWhile(pod.spec, 'node.kubernetes.io/unreachable');
}

/** A pod stays for five minutes on a node that is not ready or not reachable. */
function tolerateForAWhile(spec: PodSpecDraft, key: string): void {
  spec.tolerations ??= [];
  const { tolerations } = spec;
  const tolerated = tolerations.some(
    (toleration) =>
      (!toleration.key || toleration.key === key) && (!toleration.effect || toleration.effect === 'NoExecute'),
  );
  if (!tolerated) tolerations.push({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 });
}

function admitServiceAccount(pod: Draftable<Pod>, lookup: Lookup): void {
  const { spec, metadata } = pod;
  spec.serviceAccountName ||= 'default';
  spec.serviceAccount = spec.serviceAccountName;
  const account = lookup.get('serviceaccounts', metadata.namespace, spec.serviceAccountName) as
    | ServiceAccount
    | undefined;
  // The default account is made together with its namespace; a pod that is faster than that need not fail.
  if (!account && spec.serviceAccountName !== 'default') {
    const name = metadata.name || metadata.generateName || '';
    throw statusError(
      'Forbidden',
      `pods ${JSON.stringify(name)} is forbidden: error looking up service account ${metadata.namespace}/${spec.serviceAccountName}: serviceaccount ${JSON.stringify(spec.serviceAccountName)} not found`,
      { name, kind: 'pods' },
    );
  }
  if (account?.imagePullSecrets && !spec.imagePullSecrets)
    spec.imagePullSecrets = structuredClone(account.imagePullSecrets);
  const automount = spec.automountServiceAccountToken ?? account?.automountServiceAccountToken ?? true;
  if (automount) mountToken(spec, lookup);
}

function mountToken(spec: PodSpecDraft, lookup: Lookup): void {
  spec.volumes ??= [];
  const { volumes } = spec;
  let name = volumes.find(
    (volume) => (volume.name as string | undefined)?.startsWith('kube-api-access-') && volume.projected,
  )?.name;
  const containers = [...(spec.initContainers ?? []), ...(spec.containers ?? [])];
  const needing = containers.filter(
    (container) => !(container.volumeMounts ?? []).some((mount) => mount.mountPath === TOKEN_MOUNT_PATH),
  );
  if (needing.length > 0 && name === undefined) {
    name = `kube-api-access-${lookup.randomSuffix()}`;
    volumes.push({ name, projected: { defaultMode: 0o644, sources: tokenSources() } });
  }
  for (const container of needing) {
    container.volumeMounts ??= [];
    container.volumeMounts.push({ name: name!, readOnly: true, mountPath: TOKEN_MOUNT_PATH });
  }
  if (volumes.length === 0) delete spec.volumes;
}

function tokenSources() {
  return [
    { serviceAccountToken: { expirationSeconds: TOKEN_SECONDS, path: 'token' } },
    { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
    {
      downwardAPI: {
        items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }],
      },
    },
  ];
}
