/**
 * The manual page docs/commands.md, made from the commands themselves so that it never lags behind:
 * `node scripts/manual.mjs` writes it, test/docs.test.ts holds it against the program.
 */
import type { Argument, Command, Option } from 'commander';

const ENDING = `## Environment

| variable | what |
| --- | --- |
| \`KUBECONFIG\` | the kubeconfig into which \`up\` merges its context (its first file), else \`~/.kube/config\` |
| \`PODWIRE_CACHE\` | where set-up keeps the CNI shim and the starter images; default \`/var/cache/podwire\` |
| \`PODWIRE_NODE\` | the Node.js (24 or newer) that \`bin/podwire\` starts |
| \`PODWIRE_LOG\` | \`debug\`, \`info\`, \`warn\` or \`error\`: how much the processes write to their logs |
| \`NO_COLOR\` | no colours |

## Files

| path | what |
| --- | --- |
| \`/var/lib/podwire/NAME\` | a cluster's state: the API server's store, certificates, logs, the nodes' containers |
| \`/run/podwire/NAME\` | its sockets, process files and network namespaces |
| \`/var/cache/podwire\` | what set-up has built once for all clusters |

\`podwire down\` removes a cluster's two folders.

## Exit status

0 done; 1 failed (or, for \`policy check\` denied, for \`policy matrix --probe\` measured otherwise than computed); 2 wrong usage; 3
refused: not root, a missing package or kernel feature, a name in use. Errors are one line that says what is wrong and one that says
what to do.
`;

/** The page as Markdown. */
export function renderManual(program: Command): string {
  const commands = subcommands(program).flatMap((command) => sections(command, 'podwire'));
  return `# podwire: the commands\n\n${program.description()}\n\n${commands.join('\n')}\n${ENDING}`;
}

function subcommands(command: Command): readonly Command[] {
  return command
    .createHelp()
    .visibleCommands(command)
    .filter((one) => one.name() !== 'help');
}

/** A group has no section of its own: what it groups has. */
function sections(command: Command, before: string): readonly string[] {
  const name = `${before} ${command.name()}`;
  const below = subcommands(command);
  if (below.length > 0) return below.flatMap((one) => sections(one, name));
  return [`## ${name}\n\n${section(command, name)}`];
}

function section(command: Command, name: string): string {
  const help = command.createHelp();
  const options = help.visibleOptions(command).filter((option) => option.long !== '--help');
  const words = command.registeredArguments.map(argumentText);
  const usage = [name, ...(options.length > 0 ? ['[options]'] : []), ...words].join(' ');
  const rows = [
    ...command.registeredArguments.map((one) => `| \`${argumentText(one)}\` | ${one.description} |`),
    ...options.map((option) => `| \`${option.flags}\` | ${optionText(option)} |`),
  ];
  const table = rows.length > 0 ? `\n| | |\n| --- | --- |\n${rows.join('\n')}\n` : '';
  return `\`${usage}\`\n\n${capitalised(command.description())}.\n${table}`;
}

function argumentText(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
}

function optionText({ description, argChoices, defaultValue }: Option): string {
  const choices = argChoices ? ` (${argChoices.join(', ')})` : '';
  const preset = defaultValue === undefined || typeof defaultValue === 'boolean' ? '' : `; default ${defaultValue}`;
  return `${description}${choices}${preset}`.replaceAll('|', '\\|');
}

function capitalised(text: string): string {
  return text.replace(/^(\W*)([a-z])/, (_, before: string, letter: string) => `${before}${letter.toUpperCase()}`);
}
