/** `podwire down`: takes one or all clusters down, whatever state they are in. */
import { messageOf, UserError } from '../base/errors.ts';
import { findDescription } from '../cluster/description.ts';
import { checkName } from '../cluster/paths.ts';
import { requireRoot } from '../cluster/requirements.ts';
import { contextName } from '../cluster/supervisor.ts';
import { existingClusters, tearDown } from '../cluster/teardown.ts';
import { removeFromKubeconfig } from '../kube/kubeconfig.ts';
import { Progress } from './terminal.ts';

export async function down(options: { name: string; all?: boolean }): Promise<void> {
  requireRoot('taking a cluster down');
  const existing = existingClusters();
  if (!options.all && !existing.includes(checkName(options.name))) {
    throw new UserError(`there is no cluster named ${JSON.stringify(options.name)}`, {
      hint: existing.length > 0 ? `there is: ${existing.join(', ')}` : 'there is none at all',
    });
  }
  const names = options.all ? existing : [options.name];
  const progress = new Progress();
  const failures: string[] = [];
  for (const name of names) {
    progress.step(`taking ${name} down`);
    try {
      await downOne(name);
      progress.done();
    } catch (error) {
      progress.fail();
      failures.push(`${name}: ${messageOf(error)}`);
    }
  }
  if (names.length === 0) progress.say('no cluster to take down');
  if (failures.length > 0) throw new UserError(failures.join('; '));
}

async function downOne(name: string): Promise<void> {
  const merged = readMergedInto(name);
  await tearDown(name);
  if (merged) removeFromKubeconfig(merged, contextName(name));
}

/** A description that a crash left broken must not keep `down` from working. */
function readMergedInto(name: string): string | undefined {
  try {
    return findDescription(name)?.mergedInto;
  } catch {
    return undefined;
  }
}
