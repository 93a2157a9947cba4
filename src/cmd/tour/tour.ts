/** `podwire tour`: starts a cluster and shows what it does, step by step, with the commands that a user would type. */
import colors from 'picocolors';
import { messageOf } from '../../base/errors.ts';
import { Progress } from '../terminal.ts';
import { startCluster, takeDown, type UpOptions, watchForInterrupt } from '../up.ts';
import { Stage } from './stage.ts';
import { steps } from './steps.ts';

export async function tour(options: UpOptions & { once?: boolean }): Promise<void> {
  const progress = new Progress();
  const interrupt = watchForInterrupt();
  const interrupted = interrupt.happened;
  const cluster = await startCluster(options, interrupt, (step) => progress.step(step), progress);
  progress.say(colors.bold(`cluster ${cluster.name} is ready after ${progress.elapsed} s`));
  const stage = new Stage(cluster);
  let failure: unknown;
  let ended: NodeJS.Signals | undefined;
  void interrupted.then((signal) => {
    ended = signal;
  });
  for (const [i, step] of steps.entries()) {
    if (ended) break;
    stage.title(`${i + 1}. ${step.title}`);
    try {
      await Promise.race([step.run(stage), interrupted]);
    } catch (error) {
      failure = error;
      break;
    }
  }
  if (!ended) conclude(stage, failure, progress.elapsed);
  if (failure !== undefined) process.exitCode = 1;
  if (!options.once && !ended) {
    process.stdout.write(
      `\nThe cluster goes on: kubectl --context ${cluster.context} get pods -A -o wide\nCtrl-C takes it down.\n`,
    );
    await interrupted;
  }
  progress.step(`taking ${cluster.name} down`);
  await takeDown(cluster);
  progress.done();
}

function conclude(stage: Stage, failure: unknown, seconds: string): void {
  const out = process.stdout;
  if (failure === undefined) {
    out.write(`\n${colors.green(colors.bold(`The tour held: ${stage.claims} claims in ${seconds} s.`))}\n`);
  } else {
    out.write(`\n${colors.red(colors.bold(`The tour broke: ${messageOf(failure)}`))}\n`);
  }
}
