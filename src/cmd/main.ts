/** The command line: every role and every command, each loaded only when it is asked for. */
import { Command, CommanderError } from 'commander';
import { ExitCode, messageOf, UserError } from '../base/errors.ts';
import { StatusError } from '../kube/status.ts';
import { addRoleCommands } from './roles.ts';
import { addUserCommands } from './user-commands.ts';
import { version } from './version.ts';

const EXAMPLES = `
Examples:
  podwire up                                   start a cluster of three nodes; Ctrl-C takes it down
  podwire up --name ci --nodes 2 --detach      start one in the background
  kubectl run web --image=nginx                use it with kubectl: the context is podwire-NAME
  podwire outside -- curl http://172.18.0.2:30080   be a client outside the cluster
  podwire down --all                           take every cluster down, also after a crash

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (not root, missing package, name in use).
Documentation: README.md and the docs folder of the package.`;

export function buildProgram(): Command {
  const program = new Command('podwire')
    .description('The Kubernetes pod network, whole, on this machine: a multi-node cluster without Docker or a VM.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'explain a command')
    .showHelpAfterError('(run podwire --help for the commands)')
    .enablePositionalOptions()
    .addHelpText('after', EXAMPLES)
    .exitOverride();
  addUserCommands(program);
  addRoleCommands(program);
  return program;
}

async function main(argv: readonly string[]): Promise<void> {
  try {
    await buildProgram().parseAsync([...argv]);
  } catch (error) {
    process.exitCode = report(error);
  }
}

/** Says in one line what went wrong, in a second what to do; returns the exit code. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  process.stderr.write(`podwire: ${messageOf(error)}\n`);
  if (error instanceof UserError) {
    if (error.hint) process.stderr.write(`  ${error.hint}\n`);
    return error.exitCode;
  }
  if (!(error instanceof StatusError) && process.env['PODWIRE_LOG'] === 'debug' && error instanceof Error) {
    process.stderr.write(`${error.stack}\n`);
  }
  return ExitCode.failure;
}

if (import.meta.main) await main(process.argv);
