/** The commands that people type: their names, options and help. What they do is in one file each, loaded on demand. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { DEFAULT_PROXY_MODE, PROXY_MODES } from '../cluster/proxy-mode.ts';

const nameOption = () => new Option('-n, --name <name>', 'the name of the cluster').default('default');
const outputOption = () =>
  new Option('-o, --output <format>', 'table for people, json for programs')
    .choices(['table', 'json'])
    .default('table');

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('it must be a whole number.');
  return Number(text);
}

export function addUserCommands(program: Command): void {
  addClusterCommands(program);
  addAccessCommands(program);
  addImageCommands(program);
  addPolicyCommands(program);
  addSupportCommands(program);
}

function addClusterCommands(program: Command): void {
  const clusterOptions = (command: Command) =>
    command
      .addOption(nameOption())
      .option('--nodes <count>', 'how many nodes', wholeNumber, 3)
      .addOption(
        new Option('--ip-family <family>', 'the address families of pods and Services')
          .choices(['ipv4', 'ipv6', 'dual'])
          .default('ipv4'),
      )
      .addOption(
        new Option('--pod-network <mode>', 'how packets cross nodes').choices(['vxlan', 'host-gw']).default('vxlan'),
      )
      .addOption(
        new Option('--proxy <mode>', "what puts Services into the nodes' kernels")
          .choices(PROXY_MODES)
          .default(DEFAULT_PROXY_MODE),
      )
      .option(
        '--load-balancer-pool <range>',
        'addresses on the underlay for Services of type LoadBalancer: a CIDR or first-last (several times)',
        (range: string, before: readonly string[] = []) => [...before, range],
      )
      .option(
        '--kubeconfig <file>',
        'the kubeconfig to merge the context into (default: $KUBECONFIG or ~/.kube/config)',
      )
      .option('--no-merge', 'leave the kubeconfig as it is');
  clusterOptions(program.command('up'))
    .description('start a cluster; stays in the foreground until Ctrl-C takes it down')
    .option('-d, --detach', 'return when it is ready and leave it running')
    .addOption(new Option('--report-to-parent').hideHelp())
    .action(async (options) => (await import('./up.ts')).up(options));
  program
    .command('down')
    .description('take a cluster down and remove every trace of it')
    .addOption(nameOption())
    .option('-a, --all', 'all clusters of this machine, also those that a crash left behind')
    .action(async (options) => (await import('./down.ts')).down(options));
  program
    .command('status')
    .description('show the clusters of this machine, their nodes and processes')
    .option('-n, --name <name>', 'only this cluster')
    .addOption(outputOption())
    .action(async (options) => (await import('./status.ts')).status(options));
  clusterOptions(program.command('tour'))
    .description('start a cluster and show, step by step, what it does; Ctrl-C takes it down')
    .option('--once', 'take it down after the tour; exit code 0 only if every step held')
    .action(async (options) => (await import('./tour/tour.ts')).tour(options));
}

function addAccessCommands(program: Command): void {
  program
    .command('kubeconfig')
    .description('print the kubeconfig of a cluster')
    .addOption(nameOption())
    .option('--path', 'print the path of the file instead')
    .action(async (options) => (await import('./access.ts')).kubeconfig(options));
  program
    .command('kubectl')
    .description('run kubectl against a cluster: podwire kubectl -- get pods -o wide')
    .addOption(nameOption())
    .argument('[arguments...]', 'what kubectl is given')
    .passThroughOptions()
    .action(async (args, options) => (await import('./access.ts')).kubectl(args, options));
  const node = program.command('node').description('work with the nodes of a cluster');
  node
    .command('exec')
    .description('run a command inside the network namespace of a node: podwire node exec node-1 -- ip route')
    .addOption(nameOption())
    .argument('<node>', 'node-1, node-2 …')
    .argument('<command...>', 'the command and its arguments')
    .passThroughOptions()
    .action(async (name, command, options) => (await import('./access.ts')).nodeExec(name, command, options));
  program
    .command('outside')
    .description('run a command in a namespace on the underlay that is no node: a client from outside the cluster')
    .addOption(nameOption())
    .argument('<command...>', 'the command and its arguments')
    .passThroughOptions()
    .action(async (command, options) => (await import('./access.ts')).outside(command, options));
}

function addImageCommands(program: Command): void {
  const image = program.command('image').description('the container images that a cluster can run');
  image
    .command('load')
    .description('load an image archive (OCI or docker save) into a cluster')
    .addOption(nameOption())
    .argument('<file>', 'the archive')
    .option('--as <image>', 'the name to give it, where the archive has none')
    .action(async (file, options) => (await import('./image.ts')).loadImage(file, options));
  image
    .command('pull')
    .description('fetch an image from its registry into a cluster; the only command that uses the network')
    .addOption(nameOption())
    .argument('<image>', 'nginx:1.27, ghcr.io/owner/name:tag …')
    .action(async (name, options) => (await import('./image.ts')).pullImage(name, options));
  image
    .command('list')
    .alias('ls')
    .description('list the images that a cluster can run')
    .addOption(nameOption())
    .addOption(outputOption())
    .action(async (options) => (await import('./image.ts')).listImages(options));
}

function addPolicyCommands(program: Command): void {
  const policy = program.command('policy').description('what network policies do, computed and measured');
  const protocolOption = () =>
    new Option('--protocol <protocol>', 'the transport protocol').choices(['tcp', 'udp', 'sctp']).default('tcp');
  policy
    .command('check')
    .description('say whether FROM may reach TO, which policy and rule decide, and what would change it')
    .argument('<from>', 'pod, namespace/pod, an address, node/NAME or outside')
    .argument('<to>', 'the same or service/NAME, with :PORT (a number or a name)')
    .addOption(nameOption())
    .option('--namespace <namespace>', 'the namespace of names without one', 'default')
    .addOption(protocolOption())
    .addOption(outputOption())
    .action(async (from, to, options) => (await import('./policy.ts')).policyCheck(from, to, options));
  policy
    .command('matrix')
    .description('show which pods reach which')
    .addOption(nameOption())
    .option('--namespace <namespace>', 'only the pods of this namespace')
    .option('--port <port>', 'ask for this port instead of the first that each pod declares', wholeNumber)
    .option('--probe', 'also measure, by connections from inside the pods; exit code 1 when that differs')
    .addOption(protocolOption())
    .addOption(outputOption())
    .action(async (options) => (await import('./policy.ts')).policyMatrix(options));
  addPolicyDrops(policy);
}

function addPolicyDrops(policy: Command): void {
  policy
    .command('drops')
    .description('show the packets that policies denied, with pods and policies; a sample when there are many')
    .addOption(nameOption())
    .option('--follow', 'go on and show them as they happen, until Ctrl-C')
    .option('--namespace <namespace>', 'only from or to pods of this namespace')
    .addOption(outputOption())
    .action(async (options) => (await import('./policy-drops.ts')).policyDrops(options));
}

function addSupportCommands(program: Command): void {
  program
    .command('setup')
    .description('build what every cluster needs (the CNI shim, the starter images); `up` does it when it is missing')
    .action(async () => (await import('./setup.ts')).setup());
  program
    .command('completion')
    .description('print a completion script: podwire completion bash > /etc/bash_completion.d/podwire')
    .argument('<shell>', 'bash, zsh or fish')
    .action(async (shell) => (await import('./completion.ts')).completion(program, shell));
}
