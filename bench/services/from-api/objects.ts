/** The Services that are compared, as the API server stores them. */
import { randomUUID } from 'node:crypto';
import type { EndpointSlice, KubeObject, Node, Service } from '../../../src/kube/types.ts';
import { makeNode, makeService, makeSlice } from '../../../src/node/services/fixtures.ts';

export const NODE = 'n1';
const NODE_ADDRESS = '192.0.2.1';

const from = (base: number, n: number): string => `10.${base + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;

export const clusterIp = (n: number): string => from(97, n);
/** The n-th Service's endpoints at first: of any addresses that are no Service's, client's or server's. */
export const firstEndpoints = (n: number): string[] => [from(128, n), from(160, n)];
/** An address that only the change with this number brings; there are 2^20 of them. */
export const changedAddress = (change: number): string => from(192, change);

export const node = (): Node => withUid(makeNode(NODE, [NODE_ADDRESS]));

export const service = (n: number): Service =>
  withUid(
    makeService(`svc-${n}`, {
      type: 'ClusterIP',
      clusterIP: clusterIp(n),
      clusterIPs: [clusterIp(n)],
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      internalTrafficPolicy: 'Cluster',
      sessionAffinity: 'None',
      ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 8080 }],
    }),
  );

/** Without a version, which would be a condition of a write. */
export const slice = (n: number, addresses: readonly string[]): EndpointSlice => {
  const endpoints = addresses.map((address) => ({ address, node: 'n2', ready: true, serving: true }));
  return withUid(makeSlice(`svc-${n}`, endpoints, [{ name: 'http', protocol: 'TCP', port: 8080 }]));
};

function withUid<T extends KubeObject>(object: T): T {
  const { resourceVersion: _, ...metadata } = object.metadata;
  return { ...object, metadata: { ...metadata, uid: randomUUID() } } as T;
}
