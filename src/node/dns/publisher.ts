/**
 * Makes the cluster's DNS a Service like any other: kube-system/kube-dns at the known cluster address, and per node and
 * family one EndpointSlice with the node's own DNS. The Service's internalTrafficPolicy is Local: each pod asks its own node.
 * The slices belong to the Node object, so they go when the node goes.
 */
import { familyName, familyOf } from '../../base/ip.ts';
import type { KubeClient } from '../../kube/client.ts';
import { isAlreadyExists, isNotFound } from '../../kube/status.ts';
import type { Draft, EndpointSlice, OwnerReference, Service } from '../../kube/types.ts';

export const DNS_NAMESPACE = 'kube-system';
export const DNS_SERVICE = 'kube-dns';
const MANAGED_BY = 'dns.podwire.io';

export interface PublisherOptions {
  readonly client: KubeClient;
  readonly nodeName: string;
  readonly nodeAddresses: readonly string[];
  /** Of the Service, one per family. */
  readonly dnsAddresses: readonly string[];
}

/** Ensures the Service and this node's slices; idempotent. Rejects when the API or the Node object is not there (yet). */
export async function publishDns(options: PublisherOptions): Promise<void> {
  await ensureService(options);
  const { metadata } = await options.client.get('Node', { name: options.nodeName });
  const owner = { apiVersion: 'v1', kind: 'Node', name: metadata.name, uid: metadata.uid };
  for (const slice of desiredSlices(options, owner)) await ensureSlice(options.client, slice);
}

async function ensureService({ client, dnsAddresses }: PublisherOptions): Promise<void> {
  try {
    await client.get('Service', { namespace: DNS_NAMESPACE, name: DNS_SERVICE });
  } catch (error) {
    if (!isNotFound(error)) throw error;
    await client.create('Service', dnsService(dnsAddresses)).catch((failure: unknown) => {
      // Another node was faster.
      if (!isAlreadyExists(failure)) throw failure;
    });
  }
}

export function dnsService(dnsAddresses: readonly string[]): Draft<Service> {
  return {
    metadata: {
      name: DNS_SERVICE,
      namespace: DNS_NAMESPACE,
      // As kubeadm labels it; `kubectl cluster-info` lists Services with the second one.
      labels: { 'k8s-app': 'kube-dns', 'kubernetes.io/cluster-service': 'true', 'kubernetes.io/name': 'podwire-dns' },
    },
    spec: {
      clusterIP: dnsAddresses[0],
      clusterIPs: [...dnsAddresses],
      ipFamilies: dnsAddresses.map((address) => familyName(familyOf(address))),
      ipFamilyPolicy: dnsAddresses.length > 1 ? 'RequireDualStack' : 'SingleStack',
      internalTrafficPolicy: 'Local',
      ports: [
        { name: 'dns', protocol: 'UDP', port: 53, targetPort: 53 },
        { name: 'dns-tcp', protocol: 'TCP', port: 53, targetPort: 53 },
      ],
    },
  };
}

/** One slice per family of the node. */
export function desiredSlices(
  { nodeName, nodeAddresses }: PublisherOptions,
  owner: OwnerReference,
): Draft<EndpointSlice>[] {
  return nodeAddresses.map((address) => ({
    metadata: {
      name: `${DNS_SERVICE}-${nodeName}-${familyName(familyOf(address)).toLowerCase()}`,
      namespace: DNS_NAMESPACE,
      labels: {
        'kubernetes.io/service-name': DNS_SERVICE,
        'endpointslice.kubernetes.io/managed-by': MANAGED_BY,
        'k8s-app': 'kube-dns',
      },
      ownerReferences: [owner],
    },
    addressType: familyName(familyOf(address)),
    endpoints: [{ addresses: [address], conditions: { ready: true, serving: true, terminating: false }, nodeName }],
    ports: [
      { name: 'dns', protocol: 'UDP', port: 53 },
      { name: 'dns-tcp', protocol: 'TCP', port: 53 },
    ],
  }));
}

async function ensureSlice(client: KubeClient, desired: Draft<EndpointSlice>): Promise<void> {
  try {
    await client.create('EndpointSlice', desired);
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    const { endpoints, ports } = desired;
    const { name, namespace, ownerReferences } = desired.metadata;
    await client.patch(
      'EndpointSlice',
      { namespace: namespace!, name: name! },
      { metadata: { ownerReferences }, endpoints, ports },
    );
  }
}
