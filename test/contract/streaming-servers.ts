/**
 * What the streaming tests stand on: certificates, a node's streaming server, and an API server just large enough for
 * kubectl's exec, attach, logs and port-forward: discovery, the pods, and podStreamTarget + NodeProxy. All on 127.0.0.1.
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureAuthority, issueCertificate } from '../../src/apiserver/pki.ts';
import { NodeProxy } from '../../src/apiserver/streaming/node-proxy.ts';
import { type PodStreamSubresource, podStreamTarget } from '../../src/apiserver/streaming/pod-stream-target.ts';
import { refuseUpgrade } from '../../src/apiserver/streaming/upgrade-answer.ts';
import { silentLogger } from '../../src/base/log.ts';
import { StatusError, statusError } from '../../src/kube/status.ts';
import type { Node, Pod } from '../../src/kube/types.ts';
import { KubeletServer } from '../../src/node/pods/streaming/kubelet-server.ts';
import type { PodStreams } from '../../src/node/pods/streaming/pod-streams.ts';

/** A running pod of the namespace default on the node "node". */
export function runningPod(name: string, containers: readonly string[] = ['main']): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'default',
      uid: name,
      resourceVersion: '1',
      creationTimestamp: '2026-01-01T00:00:00Z',
    },
    spec: { nodeName: 'node', containers: containers.map((container) => ({ name: container, image: 'busybox' })) },
    status: {
      phase: 'Running',
      containerStatuses: containers.map((container) => ({
        name: container,
        image: 'busybox',
        imageID: '',
        ready: true,
        restartCount: 0,
        state: { running: {} },
      })),
    },
  };
}

export interface StreamingServers extends AsyncDisposable {
  /** "http://127.0.0.1:port" of the API server. */
  readonly url: string;
  readonly kubeletPort: number;
  /** Which protocols clients have asked the API server for: "websocket v5.channel.k8s.io", "SPDY/3.1" … */
  readonly upgrades: string[];
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string };
  /** A certificate of the same authority for somebody else. */
  issue(commonName: string, organizations: readonly string[]): Promise<{ cert: string; key: string }>;
}

export async function startStreamingServers(streams: PodStreams, pods: readonly Pod[]): Promise<StreamingServers> {
  const folder = await mkdtemp(join(tmpdir(), 'podwire-streaming-'));
  const authority = await ensureAuthority(folder);
  const issue = (commonName: string, organizations: readonly string[]) =>
    issueCertificate(authority, { commonName, organizations, usages: ['client'] });
  const server = await issueCertificate(authority, {
    commonName: 'system:node:node',
    organizations: ['system:nodes'],
    sans: ['node', '127.0.0.1'],
    usages: ['server'],
  });
  const client = await issue('kube-apiserver-kubelet-client', ['system:masters']);
  const stop = new AbortController();
  const kubelet = new KubeletServer({
    listen: [{ host: '127.0.0.1', port: 0 }],
    tls: { ca: authority.cert, ...server },
    streams,
    pods: () => pods,
    metrics: () => 'up 1\n',
    log: silentLogger,
  });
  await kubelet.start(stop.signal);
  const kubeletPort = kubelet.addresses[0]!.port;
  const tls = { ca: authority.cert, ...client };
  const api = apiServer(new NodeProxy({ tls, log: silentLogger }), pods, nodeObject(kubeletPort));
  const upgrades: string[] = [];
  api.on('upgrade', ({ headers }) => {
    upgrades.push([headers.upgrade, headers['sec-websocket-protocol']].filter(Boolean).join(' '));
  });
  api.listen(0, '127.0.0.1');
  await once(api, 'listening');
  return {
    url: `http://127.0.0.1:${(api.address() as AddressInfo).port}`,
    kubeletPort,
    upgrades,
    tls,
    issue,
    async [Symbol.asyncDispose]() {
      api.close();
      api.closeAllConnections();
      stop.abort();
      await kubelet.stopped;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function nodeObject(port: number): Node {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'node', uid: 'node', resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: {},
    status: {
      addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
      daemonEndpoints: { kubeletEndpoint: { Port: port } },
    },
  };
}

function apiServer(proxy: NodeProxy, pods: readonly Pod[], node: Node): http.Server {
  const find = (url: URL) => {
    const [, name, subresource] =
      /^\/api\/v1\/namespaces\/default\/pods\/([^/]+)(?:\/([^/]+))?$/.exec(url.pathname) ?? [];
    const pod = pods.find(({ metadata }) => metadata.name === name);
    if (!pod) throw statusError('NotFound', `${url.pathname} not found`);
    return { pod, subresource: subresource as PodStreamSubresource | undefined };
  };
  const server = http.createServer((req, res) => {
    const url = new URL(req.url ?? '/', 'http://server');
    try {
      const fixed = discovery[url.pathname];
      if (fixed) return answer(res, 200, fixed);
      const { pod, subresource } = find(url);
      if (!subresource) return answer(res, 200, pod);
      proxy.request(podStreamTarget(pod, node, subresource, url.searchParams), req, res);
    } catch (error) {
      const { code, status } = asStatus(error);
      answer(res, code, status);
    }
  });
  server.on('upgrade', (req, socket, head) => {
    const url = new URL(req.url ?? '/', 'http://server');
    try {
      const { pod, subresource } = find(url);
      proxy.upgrade(podStreamTarget(pod, node, subresource!, url.searchParams), req, socket, head);
    } catch (error) {
      refuseUpgrade(socket, asStatus(error));
    }
  });
  return server;
}

const asStatus = (error: unknown): StatusError =>
  error instanceof StatusError ? error : statusError('InternalError', String(error));

function answer(res: http.ServerResponse, code: number, value: unknown): void {
  res.writeHead(code, { 'Content-Type': 'application/json' });
  res.end(JSON.stringify(value));
}

const discovery: Readonly<Record<string, object>> = {
  '/version': { major: '1', minor: '36', gitVersion: 'v1.36.0' },
  '/api': { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] },
  '/apis': { kind: 'APIGroupList', apiVersion: 'v1', groups: [] },
  '/api/v1': {
    kind: 'APIResourceList',
    groupVersion: 'v1',
    resources: [
      { name: 'pods', singularName: 'pod', namespaced: true, kind: 'Pod', verbs: ['get', 'list'], shortNames: ['po'] },
    ],
  },
};
