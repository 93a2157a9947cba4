/** Service, core/v1. Addresses and node ports are allocated in src/apiserver/allocation. */
import { Condition, topLevel } from '../schema/meta.ts';
import { boolean, int32, intOrString, list, string, stringMap, strings, use, wire } from '../schema/schema.ts';
import { dns1035Label } from '../validation/names.ts';
import { age } from './age.ts';
import { coreObject as object } from './core-object.ts';
import { defineKind } from './kind.ts';
import {
  hasClusterIp,
  needsHealthCheckPort,
  opensNodePorts,
  type ServiceDraft,
  type ServiceSpecDraft,
} from './service-types.ts';
import { validateService, validateServiceUpdate } from './service-validation.ts';

type Spec = ServiceSpecDraft;

const ServicePort = object('ServicePort', {
  name: wire(
    1,
    string({ description: 'A DNS label, unique within the Service; needed when there are several ports.' }),
  ),
  protocol: wire(
    2,
    string({ default: 'TCP', enum: ['SCTP', 'TCP', 'UDP'], description: 'TCP, UDP or SCTP. Default TCP.' }),
  ),
  appProtocol: wire(6, string({ keep: true })),
  port: wire(3, int32({ required: true, description: 'The port that the Service exposes.' })),
  targetPort: wire(4, intOrString({ description: "Number or name of the pods' port; the same as port when absent." })),
  nodePort: wire(
    5,
    int32({ description: 'The port on each node for type NodePort and LoadBalancer; allocated when absent.' }),
  ),
});

const ServiceSpec = object(
  'ServiceSpec',
  {
    ports: wire(
      1,
      list(ServicePort, {
        mergeKey: 'port',
        mapKeys: ['port', 'protocol'],
        description: 'The ports exposed by this Service.',
      }),
    ),
    selector: wire(2, stringMap({ description: 'Traffic goes to the pods with these labels.' })),
    clusterIP: wire(3, string({ description: 'The address of the Service, allocated; "None" for a headless one.' })),
    clusterIPs: wire(18, strings({ description: 'The addresses of both families; the first is clusterIP.' })),
    type: wire(
      4,
      string({
        default: 'ClusterIP',
        enum: ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'],
        description: 'ClusterIP, NodePort, LoadBalancer or ExternalName.',
      }),
    ),
    externalIPs: wire(5, strings()),
    sessionAffinity: wire(7, string({ default: 'None', enum: ['ClientIP', 'None'], description: 'ClientIP or None.' })),
    loadBalancerIP: wire(8, string()),
    loadBalancerSourceRanges: wire(9, strings()),
    externalName: wire(10, string()),
    externalTrafficPolicy: wire(11, string({ enum: ['Cluster', 'Local'] })),
    healthCheckNodePort: wire(12, int32()),
    publishNotReadyAddresses: wire(13, boolean()),
    sessionAffinityConfig: wire(
      14,
      object('SessionAffinityConfig', {
        clientIP: wire(1, object('ClientIPConfig', { timeoutSeconds: wire(1, int32({ keep: true, default: 10800 })) })),
      }),
    ),
    ipFamilies: wire(19, list(string({ keep: true }), { description: 'IPv4, IPv6, or both in order of preference.' })),
    ipFamilyPolicy: wire(17, string({ keep: true, enum: ['PreferDualStack', 'RequireDualStack', 'SingleStack'] })),
    allocateLoadBalancerNodePorts: wire(20, boolean({ keep: true })),
    loadBalancerClass: wire(21, string({ keep: true })),
    internalTrafficPolicy: wire(22, string({ keep: true, enum: ['Cluster', 'Local'] })),
    trafficDistribution: wire(23, string({ keep: true })),
  },
  { always: true },
);

const ServiceStatus = object(
  'ServiceStatus',
  {
    loadBalancer: wire(
      1,
      object(
        'LoadBalancerStatus',
        {
          ingress: wire(
            1,
            list(
              object('LoadBalancerIngress', {
                ip: wire(1, string()),
                hostname: wire(2, string()),
                ipMode: wire(3, string({ keep: true })),
                ports: wire(
                  4,
                  list(
                    object('PortStatus', {
                      port: wire(1, int32({ required: true })),
                      protocol: wire(2, string({ required: true })),
                      error: wire(3, string({ keep: true })),
                    }),
                  ),
                ),
              }),
            ),
          ),
        },
        { always: true },
      ),
    ),
    conditions: wire(2, list(use(Condition, {}), { mergeKey: 'type' })),
  },
  { always: true },
);

export const service = defineKind<ServiceDraft>({
  group: '',
  version: 'v1',
  kind: 'Service',
  plural: 'services',
  namespaced: true,
  shortNames: ['svc'],
  categories: ['all'],
  schema: topLevel(
    'io.k8s.api.core.v1.Service',
    'Service is a named abstraction of software service: a port that the proxy listens on, and the selector of the pods that answer.',
    {
      spec: wire(2, ServiceSpec),
      status: wire(3, ServiceStatus),
    },
  ),
  columns: [
    { name: 'Name', format: 'name' },
    { name: 'Type' },
    { name: 'Cluster-IP' },
    { name: 'External-IP' },
    { name: 'Port(s)' },
    { name: 'Age' },
    { name: 'Selector', priority: 1 },
  ],
  row({ metadata, spec, status }, now) {
    return [
      metadata.name,
      spec.type ?? '',
      spec.clusterIPs?.[0] || spec.clusterIP || '<none>',
      externalAddresses(spec, status),
      portsOf(spec),
      age(metadata.creationTimestamp, now),
      selectorOf(spec.selector),
    ];
  },
  selectableFields: ['spec.clusterIP', 'spec.type'],
  status: {},
  createsOnUpdate: true,
  returnsDeleted: true,
  validateName: dns1035Label,
  applyDefaults: ({ spec }) => defaultServiceSpec(spec),
  prepareForUpdate(object, old) {
    carryOver(object.spec, old.spec);
    dropUnused(object.spec, old.spec);
  },
  validate: ({ spec }, at) => validateService(spec, at.child('spec')),
  validateUpdate: (object, old, at) => validateServiceUpdate(object.spec, old.spec, at.child('spec')),
});

function defaultServiceSpec(spec: Spec): void {
  if (spec.sessionAffinity === 'ClientIP') spec.sessionAffinityConfig ??= { clientIP: { timeoutSeconds: 10_800 } };
  else delete spec.sessionAffinityConfig;
  for (const port of spec.ports ?? []) if (!port.targetPort) port.targetPort = port.port;
  const takesExternalTraffic = opensNodePorts(spec.type) || (spec.externalIPs?.length && hasClusterIp(spec.type));
  if (takesExternalTraffic) spec.externalTrafficPolicy ??= 'Cluster';
  if (hasClusterIp(spec.type)) spec.internalTrafficPolicy ??= 'Cluster';
  if (spec.type === 'LoadBalancer') spec.allocateLoadBalancerNodePorts ??= true;
  // clusterIP and the first of clusterIPs say the same.
  if (spec.clusterIP && !spec.clusterIPs) spec.clusterIPs = [spec.clusterIP];
}

/** An update that does not name addresses or node ports keeps them, as `kubectl replace` expects. */
function carryOver(spec: Spec, old: Spec): void {
  if (hasClusterIp(spec.type) && hasClusterIp(old.type)) {
    if (!spec.clusterIP && !spec.clusterIPs) {
      if (old.clusterIP !== undefined) spec.clusterIP = old.clusterIP;
      if (old.clusterIPs !== undefined) spec.clusterIPs = structuredClone(old.clusterIPs);
    } else if (spec.clusterIP === old.clusterIP && !spec.clusterIPs && old.clusterIPs)
      spec.clusterIPs = structuredClone(old.clusterIPs);
    if (
      spec.clusterIPs &&
      spec.clusterIPs.length === 1 &&
      spec.clusterIP === old.clusterIP &&
      old.clusterIPs?.length === 2 &&
      spec.ipFamilyPolicy === old.ipFamilyPolicy
    )
      spec.clusterIPs = structuredClone(old.clusterIPs);
    if (!spec.clusterIP && spec.clusterIPs?.[0]) spec.clusterIP = spec.clusterIPs[0];
    spec.ipFamilyPolicy ??= old.ipFamilyPolicy;
    spec.ipFamilies ??= structuredClone(old.ipFamilies);
  }
  if (opensNodePorts(spec.type) && opensNodePorts(old.type)) {
    for (const port of spec.ports ?? []) {
      if (port.nodePort) continue;
      const before = old.ports?.find((other) => other.port === port.port && other.protocol === port.protocol);
      const taken = spec.ports?.some(
        (other) => other !== port && other.nodePort === before?.nodePort && other.protocol === port.protocol,
      );
      if (before?.nodePort && !taken) port.nodePort = before.nodePort;
    }
  }
  if (spec.healthCheckNodePort === undefined && needsHealthCheckPort(spec) && needsHealthCheckPort(old))
    spec.healthCheckNodePort = old.healthCheckNodePort;
}

/** Fields that the old type needed and the new one cannot have vanish, when the client left them as they were. */
function dropUnused(spec: Spec, old: Spec): void {
  if (!hasClusterIp(spec.type) && hasClusterIp(old.type)) {
    if (spec.clusterIP === old.clusterIP) {
      delete spec.clusterIP;
      delete spec.clusterIPs;
      delete spec.ipFamilies;
      delete spec.ipFamilyPolicy;
    }
    if (spec.internalTrafficPolicy === old.internalTrafficPolicy) delete spec.internalTrafficPolicy;
  }
  if (!opensNodePorts(spec.type) && opensNodePorts(old.type)) {
    for (const port of spec.ports ?? []) {
      const before = old.ports?.find((other) => other.port === port.port && other.protocol === port.protocol);
      if (before && port.nodePort === before.nodePort) delete port.nodePort;
    }
    if (spec.externalTrafficPolicy === old.externalTrafficPolicy && !spec.externalIPs?.length)
      delete spec.externalTrafficPolicy;
  }
  if (!needsHealthCheckPort(spec) && needsHealthCheckPort(old) && spec.healthCheckNodePort === old.healthCheckNodePort)
    delete spec.healthCheckNodePort;
  if (spec.type !== 'LoadBalancer' && old.type === 'LoadBalancer') {
    for (const field of ['allocateLoadBalancerNodePorts', 'loadBalancerClass'] as const)
      if (spec[field] === old[field]) delete spec[field];
  }
}

function externalAddresses(spec: Spec, status: ServiceDraft['status']): string {
  const own = spec.externalIPs ?? [];
  switch (spec.type) {
    case 'ExternalName':
      return spec.externalName ?? '<none>';
    case 'LoadBalancer': {
      const assigned = (status?.loadBalancer?.ingress ?? []).map(({ ip, hostname }) => ip || hostname || '');
      return [...assigned, ...own].join(',') || '<pending>';
    }
    default:
      return own.join(',') || '<none>';
  }
}

function portsOf(spec: Spec): string {
  const ports = (spec.ports ?? []).map(({ port, nodePort, protocol }) =>
    nodePort ? `${port}:${nodePort}/${protocol}` : `${port}/${protocol}`,
  );
  return ports.join(',') || '<none>';
}

function selectorOf(selector: Readonly<Record<string, string>> | undefined): string {
  const entries = Object.entries(selector ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.map(([key, value]) => `${key}=${value}`).join(',') || '<none>';
}
