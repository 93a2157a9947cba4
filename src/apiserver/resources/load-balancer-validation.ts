/** Validation of the fields of ServiceSpec that only load balancers have, in Kubernetes' words. */
import { isCidr } from '../../base/ip.ts';
import { type FieldError, type FieldErrors, forbidden, invalid, type Path } from '../validation/field.ts';
import { portNumber, qualifiedName } from '../validation/names.ts';
import { needsHealthCheckPort, type ServiceSpecDraft } from './service-types.ts';

type Spec = ServiceSpecDraft;

const ONLY_BALANCERS = "may only be used when `type` is 'LoadBalancer'";

/** healthCheckNodePort belongs to load balancers that keep to the node. */
export function validateHealthCheckPort(spec: Spec, at: Path): FieldErrors {
  const { healthCheckNodePort: port } = spec;
  if (!port) return [];
  const where = at.child('healthCheckNodePort');
  if (needsHealthCheckPort(spec)) return portNumber(port).map((message) => invalid(where, port, message));
  return [invalid(where, port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'")];
}

export function validateLoadBalancer(spec: Spec, at: Path): FieldErrors {
  const { loadBalancerClass, loadBalancerSourceRanges = [], allocateLoadBalancerNodePorts } = spec;
  if (spec.type !== 'LoadBalancer') {
    const errors: FieldError[] = [];
    if (loadBalancerClass !== undefined) errors.push(forbidden(at.child('loadBalancerClass'), ONLY_BALANCERS));
    if (loadBalancerSourceRanges.length > 0)
      errors.push(forbidden(at.child('loadBalancerSourceRanges'), ONLY_BALANCERS));
    if (allocateLoadBalancerNodePorts !== undefined)
      errors.push(forbidden(at.child('allocateLoadBalancerNodePorts'), ONLY_BALANCERS));
    return errors;
  }
  const names = loadBalancerClass === undefined ? [] : qualifiedName(loadBalancerClass);
  return [
    ...names.map((message) => invalid(at.child('loadBalancerClass'), loadBalancerClass, message)),
    ...loadBalancerSourceRanges.flatMap((range, i) =>
      isCidr(range.trim())
        ? []
        : [
            invalid(
              at.child('loadBalancerSourceRanges').index(i),
              range,
              'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
            ),
          ],
    ),
  ];
}

/** The port is chosen once. */
export function validateHealthCheckPortUpdate(spec: Spec, old: Spec, at: Path): FieldErrors {
  if (!needsHealthCheckPort(spec) || !needsHealthCheckPort(old)) return [];
  if (spec.healthCheckNodePort === old.healthCheckNodePort) return [];
  return [invalid(at.child('healthCheckNodePort'), spec.healthCheckNodePort ?? 0, 'field is immutable')];
}

/** The class decides whose load balancer it is: it can be chosen once. */
export function validateLoadBalancerUpdate(spec: Spec, old: Spec, at: Path): FieldErrors {
  if (spec.type !== 'LoadBalancer' || old.type !== 'LoadBalancer') return [];
  if (spec.loadBalancerClass === old.loadBalancerClass) return [];
  return [invalid(at.child('loadBalancerClass'), spec.loadBalancerClass ?? null, 'may not change once set')];
}
