/**
 * The node's process, all of its wiring in one place: pods over the container runtime, their network (CNI, addresses,
 * routes), Services, policies, DNS. Started inside the node's network namespace.
 *
 *     Node informer ---> Ipam.setPodCidrs, RoutesController
 *     containerd ------> CNI shim -> CniServer -> PodNetwork -> [PolicyController hook] -> ADD returns
 *     Pod informer ----> PodManager -> containerd
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { messageOf } from '../base/errors.ts';
import { familyOf } from '../base/ip.ts';
import { createLogger, type Logger } from '../base/log.ts';
import { parseNodePortChoices } from '../base/node-port-choice.ts';
import { type ProxyMode, servesLocalhost } from '../cluster/proxy-mode.ts';
import { EventRecorder } from '../kube/events.ts';
import { HttpClient } from '../kube/http-client.ts';
import type { Informer } from '../kube/informer.ts';
import { InformerView } from '../kube/informer-view.ts';
import { apiPath, apiResources } from '../kube/names.ts';
import type { Node, Pod } from '../kube/types.ts';
import { Conntrack } from '../linux/conntrack.ts';
import { watchLogGroup } from '../linux/nflog.ts';
import { Nftables } from '../linux/nftables.ts';
import { Rtnetlink } from '../linux/rtnetlink.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import { AnnounceController } from '../node/announce/controller.ts';
import { UnusedPorts } from '../node/announce/unused-ports.ts';
import { writeConflist } from '../node/cni/conflist.ts';
import { reservationsFromKernel } from '../node/cni/pod-adoption.ts';
import { hostInterfaceName } from '../node/cni/pod-link.ts';
import { PodNetwork } from '../node/cni/pod-network.ts';
import { CniServer } from '../node/cni/server.ts';
import { DnsController } from '../node/dns/controller.ts';
import { endpointDrain } from '../node/drain/drain.ts';
import { SyncClient } from '../node/drain/sync-client.ts';
import { SyncServer } from '../node/drain/sync-server.ts';
import { Ipam } from '../node/ipam/ipam.ts';
import { CriClient } from '../node/pods/cri/client.ts';
import { ContainerdEvents } from '../node/pods/cri/containerd-events.ts';
import { PodManager } from '../node/pods/manager.ts';
import { NodeRegistration } from '../node/pods/node-registration.ts';
import { nodeResources } from '../node/pods/node-resources.ts';
import { podTcpSockets } from '../node/pods/pod-sockets.ts';
import { KubeletServer } from '../node/pods/streaming/kubelet-server.ts';
import { isInMemory } from '../node/pods/volumes/memory-folder.ts';
import { ProcessMounts } from '../node/pods/volumes/mounts.ts';
import type { TokenRequest } from '../node/pods/volumes/tokens.ts';
import { PolicyController } from '../node/policy/controller.ts';
import { DropServer } from '../node/policy/drop-server.ts';
import { PolicyDrops } from '../node/policy/drops.ts';
import { RoutesController } from '../node/routes/controller.ts';
import { ServicesController } from '../node/services/controller.ts';
import { DEFAULT_NODE_PORT_CHOICES } from '../node/services/node-addresses.ts';
import { NodePortPlaces } from '../node/services/node-port-places.ts';
import { createInformers } from './agent-informers.ts';
import { renderAgentMetrics } from './agent-metrics.ts';
import { containerdPid } from './containerd-process.ts';
import { DROPS_SOCKET } from './policy-socket.ts';
import { openRules } from './proxy-rules.ts';
import { runRole } from './run-role.ts';

export interface AgentOptions {
  readonly nodeName: string;
  readonly kubeconfig: string;
  readonly state: string;
  readonly nodeIp: readonly string[];
  readonly criSocket: string;
  readonly cniSocket: string;
  readonly cniConf: string;
  readonly cgroupParent: string;
  readonly clusterDns: readonly string[];
  readonly clusterDomain: string;
  readonly serviceCidr: readonly string[];
  readonly clusterCidr: readonly string[];
  readonly podNetwork: 'vxlan' | 'host-gw';
  readonly proxy: ProxyMode;
  /** Where NodePorts and host ports are served; default primary and localhost. */
  readonly nodeportAddresses?: readonly string[];
  /** In the proxy mode ebpf: its compiled programs, and the control group that they are attached to. */
  readonly servicePrograms?: string;
  readonly socketCgroup?: string;
  /** In milliseconds. */
  readonly nodeLeaseDuration?: number;
}

/** As the runtime sees the CNI socket: /run is the node's own there. */
const CNI_SOCKET_INSIDE = '/run/podwire-cni.sock';
/** How container runtimes name a pod's interface. */
const POD_INTERFACE = 'eth0';
const KUBELET_PORT = 10250;
/** UDP: other nodes' agents ask how new the Service rules are. */
const SYNC_PORT = 10250;
const LEAK_CHECK_MS = 60_000;
/** A pod's start takes less between two of its events. */
const EVENTS_LULL_MS = 200;

export function runAgent(options: AgentOptions): Promise<void> {
  const log = createLogger('agent', { node: options.nodeName });
  return runRole(log, (signal) => startAgent(options, log, signal));
}

export async function startAgent(options: AgentOptions, log: Logger, signal: AbortSignal): Promise<void> {
  const { nodeName, nodeIp, state } = options;
  mkdirSync(state, { recursive: true });
  const client = HttpClient.fromKubeconfig(options.kubeconfig, `podwire-agent/${nodeName}`);
  const informers = await createInformers(client, log, signal);
  const ownPods = new InformerView(informers.pods, (pod) => pod.spec.nodeName === nodeName);
  const events = new EventRecorder({ client, component: 'kubelet', host: nodeName, log, lullMs: EVENTS_LULL_MS });

  // A packet out of the window of a busy connection must not make the node send a reset (kubernetes/kubernetes#94861).
  writeSysctl(undefined, 'net.netfilter.nf_conntrack_tcp_be_liberal', 1);
  const netlink = Rtnetlink.open();
  const ipam = await Ipam.open({
    path: join(state, 'ipam.journal'),
    log,
    recover: () => reservationsFromKernel(netlink),
  });
  const conntrack = Conntrack.open();
  const policy = new PolicyController({
    nodeName,
    informers: {
      pods: informers.pods,
      namespaces: informers.namespaces,
      policies: informers.policies,
      nodes: informers.nodes,
      ...(informers.clusterPolicies ? { clusterPolicies: informers.clusterPolicies } : {}),
    },
    client,
    nft: Nftables.open(),
    log: log.child({ component: 'policy' }),
    events,
    attachments: () => attachmentsOf(ipam),
    forgetFlows: (addresses) => forgetFlows(conntrack, addresses),
  });
  const drops = new PolicyDrops({
    nodeName,
    state: () => ({
      pods: informers.pods.list(),
      namespaces: informers.namespaces.list(),
      policies: informers.policies.list(),
      clusterPolicies: informers.clusterPolicies?.list() ?? [],
      nodes: informers.nodes.list(),
    }),
    watch: watchLogGroup,
    log: log.child({ component: 'policy' }),
  });
  const dropServer = new DropServer({
    socketPath: join(dirname(options.cniSocket), DROPS_SOCKET),
    drops,
    log: log.child({ component: 'policy' }),
  });
  const routes = new RoutesController({
    nodes: informers.nodes,
    nodeName,
    mode: options.podNetwork,
    clusterCidrs: options.clusterCidr,
    log: log.child({ component: 'routes' }),
  });
  const network = new PodNetwork({
    ipam,
    mtu: () => routes.podMtu,
    hooks: [policy],
    nodeAddresses: () => nodeIp,
    nft: Nftables.open(),
    log: log.child({ component: 'cni' }),
  });
  const cni = new CniServer({ socketPath: options.cniSocket, network, log: log.child({ component: 'cni' }) });
  const syncServer = new SyncServer({ addresses: nodeIp, port: SYNC_PORT, log: log.child({ component: 'drain' }) });
  const syncClient = new SyncClient({ port: SYNC_PORT });
  const nodePorts = new NodePortPlaces({
    chosen: options.nodeportAddresses ? parseNodePortChoices(options.nodeportAddresses) : DEFAULT_NODE_PORT_CHOICES,
    primary: nodeIp,
    servesLocalhost: servesLocalhost(options.proxy),
    netlink,
  });
  const services = new ServicesController({
    nodeName,
    informers: {
      services: informers.services,
      endpointSlices: informers.slices,
      pods: ownPods,
      nodes: informers.nodes,
    },
    rules: await openRules(options.proxy, options),
    conntrack,
    podCidrs: options.clusterCidr,
    serviceCidrs: options.serviceCidr,
    nodeAddresses: nodePorts.addresses,
    onGarbage: ({ reason, message, ...about }) => events.event(about, 'Warning', reason, message),
    onSynced: (version) => syncServer.advance(version),
    log: log.child({ component: 'services' }),
  });
  const announce = new AnnounceController({
    nodeName,
    informers: {
      services: informers.services,
      endpointSlices: informers.slices,
      nodes: informers.nodes,
      namespaces: informers.namespaces,
    },
    nodeAddresses: nodeIp,
    unusedPorts: new UnusedPorts({ nft: Nftables.open(), log: log.child({ component: 'announce' }) }),
    onTaken: ({ address }, service) =>
      events.event(service, 'Normal', 'Announced', `${nodeName} answers for ${address}`),
    log: log.child({ component: 'announce' }),
  });
  const dns = new DnsController({
    client,
    informers,
    nodeName,
    nodeAddresses: nodeIp,
    dnsAddresses: options.clusterDns,
    domain: options.clusterDomain,
    podCidrs: options.clusterCidr,
    serviceCidrs: options.serviceCidr,
    onAnswer: (names, addresses) => policy.resolved(names, addresses),
    log: log.child({ component: 'dns' }),
  });
  const resources = await nodeResources(state);
  const runtime = new CriClient(options.criSocket);
  const cgroupParent = (pod: Pod) => `${options.cgroupParent}/pod${pod.metadata.uid}`;
  let networkReady = false;
  const pods = new PodManager({
    nodeName,
    nodeIPs: nodeIp,
    client,
    podInformer: ownPods,
    serviceInformer: informers.services,
    log: log.child({ component: 'pods' }),
    runtime,
    runtimeEvents: new ContainerdEvents(options.criSocket, log),
    events,
    resources,
    dirs: {
      pods: join(state, 'pods'),
      logs: join(state, 'logs'),
      ...(isInMemory(join(state, 'memory')) ? { memory: join(state, 'memory') } : {}),
    },
    mounts: new ProcessMounts(containerdPid),
    clusterDns: options.clusterDns,
    clusterDomain: options.clusterDomain,
    networkReady: () => networkReady,
    addressesOf: (containerId) => ipam.get({ containerId, ifname: POD_INTERFACE })?.addresses,
    cgroupParent,
    tokens: { requestToken: (request) => requestToken(client, request) },
    registries: 'reachable',
    beforeStop: endpointDrain({
      services: informers.services,
      slices: informers.slices,
      nodes: informers.nodes,
      sync: syncClient,
      sockets: (pod) => (pod.spec.hostNetwork ? undefined : podTcpSockets(cgroupParent(pod))),
      log: log.child({ component: 'drain' }),
    }),
  });
  const kubelet = new KubeletServer({
    listen: nodeIp.map((host) => ({ host, port: KUBELET_PORT })),
    tls: readTls(state),
    streams: pods,
    pods: () => pods.pods(),
    metrics: () => renderAgentMetrics({ services, announce, dns, ipam, policy }),
    log: log.child({ component: 'kubelet' }),
  });
  const registration = new NodeRegistration({
    nodeName,
    nodeIPs: nodeIp,
    client,
    runtime,
    resources,
    kubeletPort: KUBELET_PORT,
    leaseDurationMs: options.nodeLeaseDuration,
    networkReady: () => networkReady,
    log: log.child({ component: 'node' }),
  });

  signal.addEventListener('abort', () => syncClient.close(), { once: true });
  await syncServer.start(signal);
  const isOwn = (node: Node) => node.metadata.name === nodeName;
  informers.nodes.addHandler({
    onUpdate: (_, node) => isOwn(node) && registration.nodeChanged(node),
    onDelete: (node) => isOwn(node) && registration.nodeChanged(undefined),
  });
  for (const informer of Object.values(informers)) void informer.start(signal).catch(() => {});
  await Promise.all([registration.start(signal), kubelet.start(signal), dns.start(signal), pods.start(signal)]);
  await podCidrsAssigned(informers.nodes, nodeName, (podCidrs) => ipam.setPodCidrs(podCidrs), signal);
  await Promise.all([drops.start(signal), dropServer.start(signal)]);
  await Promise.all([policy.start(signal), routes.start(signal), services.start(signal), network.start(signal)]);
  nodePorts.start((addresses) => services.setNodeAddresses(addresses), signal);
  await announce.start(signal);
  await cni.start(signal);
  writeConflist(options.cniConf, { socketPath: CNI_SOCKET_INSIDE });
  networkReady = true;
  registration.refresh();
  releaseLeaks(network, runtime, log, signal);
  log.info({ podCidrs: ipam.podCidrs }, 'the node is up');
}

function readTls(state: string) {
  const file = (name: string) => readFileSync(join(state, name), 'utf8');
  return { ca: file('ca.crt'), cert: file('kubelet.crt'), key: file('kubelet.key') };
}

/** The pods whose interfaces exist already, as the policy component wants to know them before its first rules. */
function attachmentsOf(ipam: Ipam) {
  return ipam.list().map(({ podNamespace, podName, podUid, addresses, containerId, ifname }) => ({
    namespace: podNamespace,
    name: podName,
    uid: podUid,
    ips: addresses,
    hostInterface: hostInterfaceName(containerId, ifname),
  }));
}

/** Ends the flows of addresses that are free again, so that their next holder inherits none. */
function forgetFlows(conntrack: Conntrack, addresses: readonly string[]): void {
  for (const address of addresses) {
    const family = familyOf(address);
    conntrack.delete({ family, origSource: address });
    conntrack.delete({ family, replySource: address });
  }
}

/** Resolves when the Node object has podCIDRs, and goes on telling of their changes. */
function podCidrsAssigned(
  nodes: Informer<'Node'>,
  nodeName: string,
  set: (podCidrs: readonly string[]) => void,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = (node: Node) => {
      const { podCIDRs = [] } = node.spec;
      if (node.metadata.name !== nodeName || podCIDRs.length === 0) return;
      set(podCIDRs);
      resolve();
    };
    nodes.addHandler({ onAdd: look, onUpdate: (_, node) => look(node) });
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/** Frees the addresses of sandboxes that the runtime does not know: they leaked when a node or its agent died. */
function releaseLeaks(network: PodNetwork, runtime: CriClient, log: Logger, signal: AbortSignal): void {
  const look = async () => {
    const sandboxes = await runtime.listPodSandbox();
    const freed = await network.reconcile(sandboxes.map((sandbox) => sandbox.id));
    if (freed > 0) log.info({ freed }, 'freed the addresses of pods that are gone');
  };
  const timer = setInterval(
    () => void look().catch((error: unknown) => log.warn({ error }, messageOf(error))),
    LEAK_CHECK_MS,
  );
  signal.addEventListener('abort', () => clearInterval(timer), { once: true });
}

/** POST serviceaccounts/NAME/token. */
async function requestToken(client: HttpClient, request: TokenRequest) {
  const { namespace, serviceAccount, audiences, expirationSeconds, pod } = request;
  const answer = await client.json<{ status: { token: string; expirationTimestamp: string } }>({
    method: 'POST',
    path: apiPath(apiResources.ServiceAccount, { namespace, name: serviceAccount }, 'token'),
    body: {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { audiences, expirationSeconds, boundObjectRef: { apiVersion: 'v1', kind: 'Pod', ...pod } },
    },
  });
  return { token: answer.status.token, expiresAt: Date.parse(answer.status.expirationTimestamp) };
}
