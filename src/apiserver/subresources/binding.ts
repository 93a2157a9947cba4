/** POST pods/{name}/binding: the scheduler puts a pod onto a node. */
import { statusError } from '../../kube/status.ts';
import { type Answer, type Api, type ApiRequest, copyOf, jsonAnswer } from '../context.ts';
import type { ApiObject } from '../resources/kind.ts';
import { isRecord } from '../schema/decode.ts';
import { conflict, type Decision } from '../storage.ts';
import { invalidError, notSupported, path, required } from '../validation/field.ts';
import { isDryRun, parseBody } from '../verbs/body.ts';

interface PodParts extends ApiObject {
  spec: { nodeName?: string; schedulingGates?: unknown[] };
  status?: { conditions?: Condition[] };
}
interface Condition {
  type: string;
  status: string;
  lastProbeTime?: string;
  lastTransitionTime?: string;
}

export async function bindPod(api: Api, request: ApiRequest): Promise<Answer> {
  const body = await parseBody(request);
  if (!isRecord(body)) throw statusError('BadRequest', 'a Binding must be an object');
  const name = request.name!;
  const target = isRecord(body['target']) ? body['target'] : {};
  const nodeName = target['name'];
  const bindingKind = { group: '', kind: 'Binding' };
  if (target['kind'] !== undefined && target['kind'] !== 'Node' && target['kind'] !== '')
    throw invalidError(bindingKind, name, [notSupported(path('target.kind'), target['kind'], ['Node', '<empty>'])]);
  if (typeof nodeName !== 'string' || nodeName === '')
    throw invalidError(bindingKind, name, [required(path('target.name'))]);
  const metadata = isRecord(body['metadata']) ? body['metadata'] : {};
  const dryRun = isDryRun(request);
  await api.storage.update(request.kind, request.namespace, name, (current): Decision => {
    const pod = copyOf(current.object) as unknown as PodParts;
    check(request, pod, metadata);
    pod.spec.nodeName = nodeName;
    pod.status = { ...pod.status, conditions: scheduled(pod.status?.conditions ?? [], api.lookup.now()) };
    for (const [key, value] of Object.entries(isRecord(metadata['annotations']) ? metadata['annotations'] : {}))
      pod.metadata.annotations = { ...pod.metadata.annotations, [key]: String(value) };
    if (pod.metadata.generation !== undefined) pod.metadata.generation++;
    return dryRun ? { keep: true } : { put: pod };
  });
  return jsonAnswer({ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 }, 201);
}

function check({ kind, name }: ApiRequest, pod: PodParts, metadata: Record<string, unknown>): void {
  const uid = metadata['uid'];
  if (typeof uid === 'string' && uid !== '' && uid !== pod.metadata.uid) {
    throw conflict(
      kind,
      name!,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${pod.metadata.uid}`,
    );
  }
  if (pod.metadata.deletionTimestamp)
    throw conflict(kind, name!, `pod ${pod.metadata.name} is being deleted, cannot be assigned to a host`);
  if (pod.spec.nodeName)
    throw conflict(
      kind,
      name!,
      `pod ${pod.metadata.name} is already assigned to node ${JSON.stringify(pod.spec.nodeName)}`,
    );
  if ((pod.spec.schedulingGates ?? []).length > 0)
    throw conflict(kind, name!, `pod ${pod.metadata.name} has non-empty .spec.schedulingGates`);
}

function scheduled(conditions: readonly Condition[], now: Date): Condition[] {
  const at = `${now.toISOString().slice(0, 19)}Z`;
  const others = conditions.filter((condition) => condition.type !== 'PodScheduled');
  return [...others, { type: 'PodScheduled', status: 'True', lastTransitionTime: at }];
}
