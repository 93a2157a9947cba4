/** Validation of ServiceSpec, in Kubernetes' words. */
import { isDeepStrictEqual } from 'node:util';
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
import {
  dns1123Label,
  dns1123Subdomain,
  ipAddress,
  nonSpecialIp,
  portName,
  portNumber,
  qualifiedName,
} from '../validation/names.ts';
import {
  validateHealthCheckPort,
  validateHealthCheckPortUpdate,
  validateLoadBalancer,
  validateLoadBalancerUpdate,
} from './load-balancer-validation.ts';
import { hasClusterIp, opensNodePorts, type ServiceSpecDraft } from './service-types.ts';

type Spec = ServiceSpecDraft;

/** core/v1 KubeletPort. */
const KUBELET_PORT = 10250;

export function validateService(spec: Spec, at: Path): FieldErrors {
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
  errors.push(...validateLoadBalancer(spec, at), ...validateHealthCheckPort(spec, at));
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
    errors.push(...nonSpecialIp(ip).map((message) => invalid(at.child('externalIPs').index(i), ip, message)));
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
    if (ip === 'None' || ip === '') return;
    errors.push(...ipAddress(ip).map((message) => invalid(at.child('clusterIPs').index(i), ip, message)));
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
  const nodePorts = new Set<string>();
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
      const nodePort = `${port.protocol}/${port.nodePort}`;
      if (nodePorts.has(nodePort)) errors.push(duplicate(here.child('nodePort'), port.nodePort));
      nodePorts.add(nodePort);
    }
    const { appProtocol } = port;
    if (appProtocol !== undefined)
      errors.push(
        ...qualifiedName(appProtocol).map((message) => invalid(here.child('appProtocol'), appProtocol, message)),
      );
    if (spec.type === 'LoadBalancer' && port.port === KUBELET_PORT)
      errors.push(
        invalid(
          here.child('port'),
          port.port,
          `may not expose port ${KUBELET_PORT} externally since it is used by kubelet`,
        ),
      );
    const key = `${port.protocol}/${port.port}`;
    if (numbers.has(key)) errors.push(duplicate(here, { protocol: port.protocol, port: port.port }));
    numbers.add(key);
  });
  return errors;
}

export function validateServiceUpdate(spec: Spec, old: Spec, at: Path): FieldErrors {
  const errors: FieldError[] = [
    ...validateLoadBalancerUpdate(spec, old, at),
    ...validateHealthCheckPortUpdate(spec, old, at),
  ];
  if (!hasClusterIp(spec.type) || !hasClusterIp(old.type)) return errors;
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
