/** Ways into a cluster: its kubeconfig, kubectl, the namespaces of nodes and of the outside. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { UserError } from '../base/errors.ts';
import { Cluster } from '../cluster/cluster.ts';
import { findProgram, requireRoot } from '../cluster/requirements.ts';

interface Named {
  readonly name: string;
}

export function kubeconfig({ name, path }: Named & { path?: boolean }): void {
  const file = Cluster.open(name).kubeconfig;
  process.stdout.write(path ? `${file}\n` : readFileSync(file, 'utf8'));
}

/** The path of kubectl; UserError when there is none. */
export function requireKubectl(): string {
  const kubectl = findProgram('kubectl');
  if (kubectl) return kubectl;
  throw new UserError('kubectl is not on the PATH', { hint: 'run: apt-get install kubernetes-client', exitCode: 3 });
}

export async function kubectl(args: readonly string[], { name }: Named): Promise<void> {
  const cluster = Cluster.open(name);
  process.exitCode = await runInherited([requireKubectl(), ...args], { KUBECONFIG: cluster.kubeconfig });
}

export async function nodeExec(node: string, command: readonly string[], { name }: Named): Promise<void> {
  requireRoot('entering a node');
  const cluster = Cluster.open(name);
  if (!cluster.nodes.includes(node)) {
    throw new UserError(`cluster ${name} has no node ${JSON.stringify(node)}`, {
      hint: `it has: ${cluster.nodes.join(', ')}`,
    });
  }
  // commander keeps the -- that separates the command from the node's name.
  await runInside(cluster, node, command[0] === '--' ? command.slice(1) : command);
}

export async function outside(command: readonly string[], { name }: Named): Promise<void> {
  requireRoot('entering the outside namespace');
  await runInside(Cluster.open(name), 'outside', command);
}

async function runInside(cluster: Cluster, namespace: string, command: readonly string[]): Promise<void> {
  process.exitCode = await runInherited(['nsenter', `--net=${cluster.paths.namespace(namespace)}`, '--', ...command]);
}

/** Runs a command on this terminal; its exit code, 128 + N for a signal. */
function runInherited(argv: readonly string[], env: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), { stdio: 'inherit', env: { ...process.env, ...env } });
    const ignore = () => {};
    process.on('SIGINT', ignore);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      process.off('SIGINT', ignore);
      resolve(code ?? (signal === 'SIGINT' ? 130 : 143));
    });
  });
}
