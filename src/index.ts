/** The library: `import { Cluster } from 'podwire'`. */

export { UserError } from './base/errors.ts';
export type { ClusterOptions, ConnectFrom, ConnectOptions, PodExecOptions } from './cluster/cluster.ts';
export { Cluster } from './cluster/cluster.ts';
export type { ClusterDescription, IpFamily, NodeDescription, PodNetworkMode } from './cluster/description.ts';
export type { ConnectResult } from './cluster/probe.ts';
export type { ExecResult } from './kube/exec.ts';
export { HttpClient } from './kube/http-client.ts';
export { StatusError } from './kube/status.ts';
