/** The long-lived roles: what runs in the server's and in each node's process. */
import { type Command, Option } from 'commander';
import { DEFAULT_PROXY_MODE, PROXY_MODES } from '../cluster/proxy-mode.ts';

const collect = (value: string, before: readonly string[] = []) => [...before, value];

export function addRoleCommands(program: Command): void {
  addServer(program);
  addAgent(program);
}

function addServer(program: Command): void {
  program
    .command('server', { hidden: true })
    .description('run the API server and the controllers')
    .requiredOption('--pki <folder>', 'certificates and keys, made where they are missing')
    .requiredOption('--store <folder>', 'the objects')
    .option('--listen-fd <fd>', 'a listening socket that the parent handed down', Number)
    .option('--listen <address>', 'an address to listen on (several times)', collect)
    .option('--port <port>', 'the port on these addresses', Number, 6443)
    .option('--service-cidr <cidr>', 'the addresses of Services (one per family)', collect)
    .option('--cluster-cidr <cidr>', 'the addresses of pods (one per family)', collect)
    .option('--cluster-domain <domain>', 'the DNS domain', 'cluster.local')
    .option('--node-mask-ipv4 <bits>', "the prefix length of a node's share of the pods' IPv4 addresses", Number)
    .option('--node-mask-ipv6 <bits>', "the prefix length of a node's share of the pods' IPv6 addresses", Number)
    .option('--node-grace-period <ms>', 'a node that is silent for longer is not ready', Number)
    .option('--load-balancer-pool <range>', 'addresses of load balancers (several times)', collect)
    .option('--registry-port <port>', 'serve image layouts as a registry on the same addresses', Number)
    .option('--registry <folder>', 'an OCI layout to serve (several times)', collect)
    .action(async (options) => (await import('./server.ts')).runServer(options));
}

function addAgent(program: Command): void {
  program
    .command('agent', { hidden: true })
    .description('run a node: pods, their network, routes, Services, policies, DNS')
    .requiredOption('--node-name <name>', 'the name of this node')
    .requiredOption('--kubeconfig <file>', 'how to reach the API server')
    .requiredOption('--state <folder>', 'addresses, volumes and logs of the pods')
    .option('--node-ip <address>', 'an address of this node (one per family)', collect)
    .requiredOption('--cri-socket <file>', "the container runtime's socket")
    .requiredOption('--cni-socket <file>', 'the socket that the CNI shim talks to')
    .requiredOption('--cni-conf <folder>', 'where the CNI configuration is written for the runtime')
    .option('--node-lease-duration <ms>', 'how long the node counts as alive after each sign of life', Number)
    .option('--cgroup-parent <path>', 'the control group of the pods', '/podwire')
    .option('--cluster-dns <address>', 'the address of the cluster DNS (one per family)', collect)
    .option('--cluster-domain <domain>', 'the DNS domain', 'cluster.local')
    .option('--service-cidr <cidr>', 'the addresses of Services (one per family)', collect)
    .option('--cluster-cidr <cidr>', 'the addresses of pods (one per family)', collect)
    .option(
      '--nodeport-addresses <choice>',
      'where NodePorts and host ports are served: primary, localhost, all or a CIDR (several times)',
      collect,
    )
    .addOption(
      new Option('--pod-network <mode>', 'how packets cross nodes').choices(['vxlan', 'host-gw']).default('vxlan'),
    )
    .addOption(
      new Option('--proxy <mode>', 'what puts Services into the kernel')
        .choices(PROXY_MODES)
        .default(DEFAULT_PROXY_MODE),
    )
    .option('--service-programs <file>', 'the compiled programs of the proxy mode ebpf')
    .option('--socket-cgroup <folder>', 'the control group at whose sockets they work')
    .action(async (options) => (await import('./agent.ts')).runAgent(options));
}
