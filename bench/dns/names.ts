/** The same 10,000 Services for every server of the benchmark. */
import { cidrAddress, parseCidr } from '../../src/base/ip.ts';
import type { Draft, EndpointSlice, Service } from '../../src/kube/types.ts';

export const SERVICES = 10_000;
const NAMESPACES = 10;
const serviceCidr = parseCidr('10.96.0.0/12');
const podCidr = parseCidr('10.244.0.0/16');

export const namespaces = Array.from({ length: NAMESPACES }, (_, i) => `team-${i}`);

export const placeOf = (i: number) => ({ namespace: `team-${i % NAMESPACES}`, name: `service-${i}` });
export const addressOf = (i: number): string => cidrAddress(serviceCidr, i + 256);

export function nameOf(i: number): string {
  const { name, namespace } = placeOf(i);
  return `${name}.${namespace}.svc.cluster.local`;
}

const http = { name: 'http', protocol: 'TCP', port: 80 };

export function service(i: number): Draft<Service> {
  const { name } = placeOf(i);
  return {
    metadata: { ...placeOf(i), labels: { app: name } },
    spec: { clusterIP: addressOf(i), clusterIPs: [addressOf(i)], selector: { app: name }, ports: [http] },
  };
}

/** Two endpoints each, as a pod manager would report them. */
export function endpointSlice(i: number): Draft<EndpointSlice> {
  const { name, namespace } = placeOf(i);
  return {
    metadata: { namespace, name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    endpoints: [0, 1].map((one) => ({
      addresses: [cidrAddress(podCidr, 2 * i + one)],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `node-${i % 3}`,
      targetRef: { kind: 'Pod', namespace, name: `${name}-${one}` },
    })),
    ports: [http],
  };
}

/** An object as a server returns it. */
export const stored = <T extends { readonly metadata: object }>(object: T, i: number) => ({
  ...object,
  metadata: {
    ...object.metadata,
    uid: `00000000-0000-0000-0000-${String(i).padStart(12, '0')}`,
    resourceVersion: '1',
    creationTimestamp: '2026-01-01T00:00:00Z',
  },
});
