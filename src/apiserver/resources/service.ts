/** Service, core/v1. Addresses and node ports are allocated in src/apiserver/allocation. */
import { isDeepStrictEqual } from 'node:util';
import { isIp } from '../../base/ip.ts';
import type { Service } from '../../kube/types.ts';
import { Condition, topLevel } from '../schema/meta.ts';
import {
  boolean,
  object as define,
  int32,
  intOrString,
  list,
  type Schema,
  string,
  stringMap,
  strings,
  use,
} from '../schema/schema.ts';
import {
  duplicate,
  type FieldError,
  type FieldErrors,
  forbidden,
  invalid,
  notSupported,
  type Path,
  required,
  tooMany,
} from '../validation/field.ts';
import { validateLabels } from '../validation/meta.ts';
import { dns1035Label, dns1123Label, dns1123Subdomain, portName, portNumber } from '../validation/names.ts';
import { age } from './age.ts';
import { type Draftable, defineKind } from './kind.ts';

export type ServiceDraft = Draftable<Service>;
type Spec = ServiceDraft['spec'];

const object = (name: string, fields: Readonly<Record<string, Schema>>, options = {}) =>
  define(`io.k8s.api.core.v1.${name}`, fields, options);

const ServicePort = object('ServicePort', {
  name: string({ description: 'A DNS label, unique within the Service; needed when there are several ports.' }),
  protocol: string({ default: 'TCP', enum: ['SCTP', 'TCP', 'UDP'], description: 'TCP, UDP or SCTP. Default TCP.' }),
  appProtocol: string({ keep: true }),
  port: int32({ required: true, description: 'The port that the Service exposes.' }),
  targetPort: intOrString({ description: "Number or name of the pods' port; the same as port when absent." }),
  nodePort: int32({ description: 'The port on each node for type NodePort and LoadBalancer; allocated when absent.' }),
});

const ServiceSpec = object(
  'ServiceSpec',
  {
    ports: list(ServicePort, {
      mergeKey: 'port',
      mapKeys: ['port', 'protocol'],
      description: 'The ports exposed by this Service.',
    }),
    selector: stringMap({ description: 'Traffic goes to the pods with these labels.' }),
    clusterIP: string({ description: 'The address of the Service, allocated; "None" for a headless one.' }),
    clusterIPs: strings({ description: 'The addresses of both families; the first is clusterIP.' }),
    type: string({
      default: 'ClusterIP',
      enum: ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'],
      description: 'ClusterIP, NodePort, LoadBalancer or ExternalName.',
    }),
    externalIPs: strings(),
    sessionAffinity: string({ default: 'None', enum: ['ClientIP', 'None'], description: 'ClientIP or None.' }),
    loadBalancerIP: string(),
    loadBalancerSourceRanges: strings(),
    externalName: string(),
    externalTrafficPolicy: string({ enum: ['Cluster', 'Local'] }),
    healthCheckNodePort: int32(),
    publishNotReadyAddresses: boolean(),
    sessionAffinityConfig: object('SessionAffinityConfig', {
      clientIP: object('ClientIPConfig', { timeoutSeconds: int32({ keep: true, default: 10800 }) }),
    }),
    ipFamilies: list(string({ keep: true }), { description: 'IPv4, IPv6, or both in order of preference.' }),
    ipFamilyPolicy: string({ keep: true, enum: ['PreferDualStack', 'RequireDualStack', 'SingleStack'] }),
    allocateLoadBalancerNodePorts: boolean({ keep: true }),
    loadBalancerClass: string({ keep: true }),
    internalTrafficPolicy: string({ keep: true, enum: ['Cluster', 'Local'] }),
    trafficDistribution: string({ keep: true }),
  },
  { always: true },
);

const ServiceStatus = object(
  'ServiceStatus',
  {
    loadBalancer: object(
      'LoadBalancerStatus',
      {
        ingress: list(
          object('LoadBalancerIngress', {
            ip: string(),
            hostname: string(),
            ipMode: string({ keep: true }),
            ports: list(
              object('PortStatus', {
                port: int32({ required: true }),
                protocol: string({ required: true }),
                error: string({ keep: true }),
              }),
            ),
          }),
        ),
      },
      { always: true },
    ),
    conditions: list(use(Condition, {}), { mergeKey: 'type' }),
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
      spec: ServiceSpec,
      status: ServiceStatus,
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

export const opensNodePorts = (type: string | undefined) => type === 'NodePort' || type === 'LoadBalancer';
const hasClusterIp = (type: string | undefined) => type !== 'ExternalName';

function defaultServiceSpec(spec: Spec): void {
  if (spec.sessionAffinity === 'ClientIP') spec.sessionAffinityConfig ??= { clientIP: { timeoutSeconds: 10_800 } };
  else delete spec.sessionAffinityConfig;
  for (const port of spec.ports ?? []) if (!port.targetPort) port.targetPort = port.port;
  if (opensNodePorts(spec.type)) spec.externalTrafficPolicy ??= 'Cluster';
  else if (!(spec.externalIPs?.length && hasClusterIp(spec.type))) {
    /* only external traffic has the policy */
  } else spec.externalTrafficPolicy ??= 'Cluster';
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

export const needsHealthCheckPort = (spec: Spec) =>
  spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';

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
  if (spec.type !== 'LoadBalancer' && old.type === 'LoadBalancer') delete spec.allocateLoadBalancerNodePorts;
}

function validateService(spec: Spec, at: Path): FieldErrors {
  const errors: FieldError[] = [];
  const headless = spec.clusterIP === 'None';
  const ports = spec.ports ?? [];
  if (ports.length === 0 && !headless && spec.type !== 'ExternalName') errors.push(required(at.child('ports')));
  if (spec.type === 'ExternalName') {
    if (!spec.externalName) errors.push(required(at.child('externalName')));
    else
      errors.push(
        ...dns1123Subdomain(spec.externalName.replace(/\.$/, '')).map((m) =>
          invalid(at.child('externalName'), spec.externalName, m),
        ),
      );
    if (spec.clusterIP && !headless)
      errors.push(forbidden(at.child('clusterIPs').index(0), 'may not be set for ExternalName services'));
  }
  if (headless && opensNodePorts(spec.type))
    errors.push(invalid(at.child('clusterIPs').index(0), 'None', `may not be set to 'None' for ${spec.type} services`));
  errors.push(...validateClusterIps(spec, at), ...validateServicePorts(spec, at.child('ports')));
  if (spec.selector) errors.push(...validateLabels(spec.selector, at.child('selector')));
  const timeout = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds;
  if (timeout !== undefined && (timeout <= 0 || timeout > 86_400))
    errors.push(
      invalid(
        at.child('sessionAffinityConfig', 'clientIP', 'timeoutSeconds'),
        timeout,
        'must be greater than 0 and less than 86400',
      ),
    );
  (spec.externalIPs ?? []).forEach((ip, i) => {
    if (!isIp(ip))
      errors.push(
        invalid(at.child('externalIPs').index(i), ip, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'),
      );
  });
  if (spec.externalTrafficPolicy && !opensNodePorts(spec.type) && !spec.externalIPs?.length)
    errors.push(
      invalid(
        at.child('externalTrafficPolicy'),
        spec.externalTrafficPolicy,
        'may only be set for externally-accessible services',
      ),
    );
  if (
    spec.trafficDistribution !== undefined &&
    !['PreferClose', 'PreferSameNode', 'PreferSameZone'].includes(spec.trafficDistribution)
  )
    errors.push(
      notSupported(at.child('trafficDistribution'), spec.trafficDistribution, [
        'PreferClose',
        'PreferSameNode',
        'PreferSameZone',
      ]),
    );
  return errors;
}

function validateClusterIps(spec: Spec, at: Path): FieldError[] {
  const errors: FieldError[] = [];
  const ips = spec.clusterIPs ?? [];
  if (ips.length > 2) errors.push(tooMany(at.child('clusterIPs'), ips.length, 2));
  if (spec.clusterIP && ips.length > 0 && spec.clusterIP !== ips[0])
    errors.push(invalid(at.child('clusterIPs'), ips, 'first value must match `clusterIP`'));
  ips.forEach((ip, i) => {
    if (ip !== 'None' && ip !== '' && !isIp(ip))
      errors.push(
        invalid(at.child('clusterIPs').index(i), ip, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'),
      );
  });
  if (ips.length > 1 && ips.includes('None'))
    errors.push(invalid(at.child('clusterIPs'), ips, "'None' must be the first and only value"));
  const families = spec.ipFamilies ?? [];
  if (families.length > 2) errors.push(tooMany(at.child('ipFamilies'), families.length, 2));
  families.forEach((family, i) => {
    if (family !== 'IPv4' && family !== 'IPv6')
      errors.push(notSupported(at.child('ipFamilies').index(i), family, ['IPv4', 'IPv6']));
    else if (families.indexOf(family) < i) errors.push(duplicate(at.child('ipFamilies').index(i), family));
  });
  return errors;
}

function validateServicePorts(spec: Spec, at: Path): FieldError[] {
  const errors: FieldError[] = [];
  const ports = spec.ports ?? [];
  const names = new Set<string>();
  const numbers = new Set<string>();
  ports.forEach((port, i) => {
    const here = at.index(i);
    if (!port.name) {
      if (ports.length > 1) errors.push(required(here.child('name')));
    } else {
      errors.push(...dns1123Label(port.name).map((message) => invalid(here.child('name'), port.name, message)));
      if (names.has(port.name)) errors.push(duplicate(here.child('name'), port.name));
      names.add(port.name);
    }
    errors.push(...portNumber(port.port ?? 0).map((message) => invalid(here.child('port'), port.port ?? 0, message)));
    const { targetPort } = port;
    if (targetPort !== undefined) {
      const messages = typeof targetPort === 'number' ? portNumber(targetPort) : portName(targetPort);
      errors.push(...messages.map((message) => invalid(here.child('targetPort'), targetPort, message)));
    }
    if (port.nodePort) {
      if (!opensNodePorts(spec.type))
        errors.push(forbidden(here.child('nodePort'), `may not be used when \`type\` is '${spec.type}'`));
      else
        errors.push(
          ...portNumber(port.nodePort).map((message) => invalid(here.child('nodePort'), port.nodePort, message)),
        );
    }
    const key = `${port.protocol}/${port.port}`;
    if (numbers.has(key)) errors.push(duplicate(here, { protocol: port.protocol, port: port.port }));
    numbers.add(key);
  });
  return errors;
}

function validateServiceUpdate(spec: Spec, old: Spec, at: Path): FieldErrors {
  if (!hasClusterIp(spec.type) || !hasClusterIp(old.type)) return [];
  const errors: FieldError[] = [];
  const before = old.clusterIPs ?? [];
  const now = spec.clusterIPs ?? [];
  if (before[0] && now[0] !== before[0])
    errors.push(invalid(at.child('clusterIPs').index(0), now[0] ?? '', 'field is immutable'));
  if (before[1] && now[1] !== undefined && now[1] !== before[1])
    errors.push(invalid(at.child('clusterIPs').index(1), now[1], 'field is immutable'));
  const [family] = old.ipFamilies ?? [];
  if (family && spec.ipFamilies?.[0] && !isDeepStrictEqual(spec.ipFamilies[0], family))
    errors.push(invalid(at.child('ipFamilies').index(0), spec.ipFamilies[0], 'field is immutable'));
  return errors;
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
