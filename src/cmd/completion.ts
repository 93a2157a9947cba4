/** `podwire completion`: scripts made from the commands themselves, so that they never lag behind. */
import type { Command } from 'commander';
import { UserError } from '../base/errors.ts';

/** One completable position: the words typed so far, and what may follow. */
interface Position {
  readonly path: string;
  readonly words: readonly string[];
}

export function completion(program: Command, shell: string): void {
  const positions = positionsOf(program, '');
  switch (shell) {
    case 'bash':
      return void process.stdout.write(bash(positions));
    case 'zsh':
      return void process.stdout.write(`autoload -U +X bashcompinit && bashcompinit\n${bash(positions)}`);
    case 'fish':
      return void process.stdout.write(fish(positions));
    default:
      throw new UserError(`no completion for ${JSON.stringify(shell)}`, { hint: 'use bash, zsh or fish', exitCode: 2 });
  }
}

function positionsOf(command: Command, path: string): Position[] {
  const visible = command.createHelp().visibleCommands(command);
  const options = command
    .createHelp()
    .visibleOptions(command)
    .flatMap((option) => option.long ?? []);
  const here = { path, words: [...visible.map((one) => one.name()), ...options] };
  const below = visible
    .filter((one) => one.name() !== 'help')
    .flatMap((one) => positionsOf(one, path ? `${path} ${one.name()}` : one.name()));
  return [here, ...below];
}

function bash(positions: readonly Position[]): string {
  const cases = positions.map(
    ({ path, words }) => `    ${JSON.stringify(path)}) words=${JSON.stringify(words.join(' '))} ;;`,
  );
  return `_podwire() {
  local word path="" words="" current="\${COMP_WORDS[COMP_CWORD]}"
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in --) return ;; -*) ;; *) path="\${path:+$path }$word" ;; esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _podwire podwire
`;
}

function fish(positions: readonly Position[]): string {
  const lines = positions.map(({ path, words }) => {
    const seen = path.split(' ').filter(Boolean);
    const condition = seen.length === 0 ? '__fish_use_subcommand' : `__fish_seen_subcommand_from ${seen.at(-1)}`;
    return `complete -c podwire -n '${condition}' -a '${words.join(' ')}'`;
  });
  return `${lines.join('\n')}\n`;
}
