/** `podwire setup`: builds the products that every cluster uses. */
import { requireRoot } from '../cluster/requirements.ts';
import { prepare } from '../cluster/setup.ts';
import { Progress } from './terminal.ts';

export async function setup(): Promise<void> {
  requireRoot('set-up');
  const progress = new Progress();
  await prepare((step) => progress.step(step));
  progress.say('podwire is set up');
}
