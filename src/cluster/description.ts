/** What a cluster is: written once at its start, read by every command that is about it. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { codeOf, UserError } from '../base/errors.ts';
import type { Family } from '../base/ip.ts';
import { clusterPaths } from './paths.ts';
import type { ProxyMode } from './proxy-mode.ts';

export type IpFamily = 'ipv4' | 'ipv6' | 'dual';
export type PodNetworkMode = 'vxlan' | 'host-gw';

export interface NodeDescription {
  readonly name: string;
  /** On the underlay, one per family. */
  readonly addresses: readonly string[];
}

export interface ClusterDescription {
  readonly name: string;
  readonly createdAt: string;
  readonly ipFamily: IpFamily;
  readonly podNetwork: PodNetworkMode;
  /** Absent in clusters of earlier versions, which had nftables alone. */
  readonly proxy?: ProxyMode;
  /** The API server's port on 127.0.0.1. */
  readonly apiPort: number;
  readonly nodes: readonly NodeDescription[];
  /** The kubeconfig into which the context was merged, if any. */
  readonly mergedInto?: string;
}

export function familiesOf(ipFamily: IpFamily): readonly Family[] {
  switch (ipFamily) {
    case 'ipv4':
      return [4];
    case 'ipv6':
      return [6];
    case 'dual':
      return [4, 6];
  }
}

export function writeDescription(description: ClusterDescription): void {
  const { description: path } = clusterPaths(description.name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, `${JSON.stringify(description, undefined, 2)}\n`);
  renameSync(`${path}.new`, path);
}

/** The description of a cluster that was started, or undefined. */
export function findDescription(name: string): ClusterDescription | undefined {
  try {
    return JSON.parse(readFileSync(clusterPaths(name).description, 'utf8')) as ClusterDescription;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** The description of a cluster; UserError when there is none of the name. */
export function readDescription(name: string): ClusterDescription {
  const description = findDescription(name);
  if (!description) {
    throw new UserError(`there is no cluster named ${JSON.stringify(name)}`, {
      hint: 'podwire status lists the clusters; podwire up starts one',
    });
  }
  return description;
}
