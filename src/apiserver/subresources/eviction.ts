/** POST pods/{name}/eviction: a deletion that drains use. No disruption budgets exist yet, so every eviction is allowed. */
import { statusError } from '../../kube/status.ts';
import { type Answer, type Api, type ApiRequest, jsonAnswer } from '../context.ts';
import { isRecord } from '../schema/decode.ts';
import { isDryRun, parseBody } from '../verbs/body.ts';
import { type DeleteOptions, deleteObject } from '../verbs/delete.ts';

export async function evictPod(api: Api, request: ApiRequest): Promise<Answer> {
  const body = await parseBody(request);
  if (!isRecord(body)) throw statusError('BadRequest', 'an Eviction must be an object');
  const options = isRecord(body['deleteOptions']) ? (body['deleteOptions'] as DeleteOptions) : {};
  await deleteObject(api, request.kind, request.namespace, request.name!, {
    gracePeriodSeconds: options.gracePeriodSeconds,
    preconditions: options.preconditions,
    dryRun: isDryRun(request),
  });
  return jsonAnswer({ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 }, 201);
}
