/** NetworkPolicy, networking.k8s.io/v1. */
import { cidrContains, isCidr, parseCidr } from '../../base/ip.ts';
import type { NetworkPolicy } from '../../kube/types.ts';
import { LabelSelector, topLevel } from '../schema/meta.ts';
import {
  object as define,
  int32,
  intOrString,
  list,
  type Schema,
  string,
  strings,
  use,
  wire,
} from '../schema/schema.ts';
import { type FieldError, forbidden, invalid, type Path, required } from '../validation/field.ts';
import { validateLabelSelector } from '../validation/meta.ts';
import { portName, portNumber } from '../validation/names.ts';
import { age } from './age.ts';
import { type Draftable, defineKind } from './kind.ts';
import { selectorText } from './workloads.ts';

type Draft = Draftable<NetworkPolicy>;
type Spec = Draft['spec'];
type Peer = NonNullable<NonNullable<Spec['ingress']>[number]['from']>[number];
type Port = NonNullable<NonNullable<Spec['ingress']>[number]['ports']>[number];

const object = (name: string, fields: Readonly<Record<string, Schema>>, options = {}) =>
  define(`io.k8s.api.networking.v1.${name}`, fields, options);

const NetworkPolicyPort = object('NetworkPolicyPort', {
  protocol: wire(1, string({ keep: true, default: 'TCP', enum: ['SCTP', 'TCP', 'UDP'] })),
  port: wire(2, intOrString({ description: 'Number or name of a port on the pod; all ports when absent.' })),
  endPort: wire(3, int32({ keep: true, description: 'Last port of a range that begins at port.' })),
});
const NetworkPolicyPeer = object('NetworkPolicyPeer', {
  podSelector: wire(1, use(LabelSelector, { description: 'Pods by their labels.' })),
  namespaceSelector: wire(2, use(LabelSelector, { description: 'Namespaces by their labels.' })),
  ipBlock: wire(3, object('IPBlock', { cidr: wire(1, string({ required: true })), except: wire(2, strings()) })),
});
const ports = list(NetworkPolicyPort, { description: 'Ports of this rule; all ports when empty.' });

export const networkPolicy = defineKind<Draft>({
  group: 'networking.k8s.io',
  version: 'v1',
  kind: 'NetworkPolicy',
  plural: 'networkpolicies',
  namespaced: true,
  shortNames: ['netpol'],
  schema: topLevel(
    'io.k8s.api.networking.v1.NetworkPolicy',
    'NetworkPolicy describes what network traffic is allowed for a set of Pods.',
    {
      spec: wire(
        2,
        object(
          'NetworkPolicySpec',
          {
            podSelector: wire(
              1,
              use(LabelSelector, {
                always: true,
                description: 'The pods to which this policy applies; empty selects all.',
              }),
            ),
            ingress: wire(
              2,
              list(
                object('NetworkPolicyIngressRule', { ports: wire(1, ports), from: wire(2, list(NetworkPolicyPeer)) }),
              ),
            ),
            egress: wire(
              3,
              list(object('NetworkPolicyEgressRule', { ports: wire(1, ports), to: wire(2, list(NetworkPolicyPeer)) })),
            ),
            policyTypes: wire(
              4,
              list(string({ keep: true, enum: ['Egress', 'Ingress'] }), {
                description: 'Ingress, Egress, or both.',
              }),
            ),
          },
          { always: true },
        ),
      ),
    },
  ),
  columns: [{ name: 'Name', format: 'name' }, { name: 'Pod-Selector' }, { name: 'Age' }],
  row: ({ metadata, spec }, now) => [
    metadata.name,
    selectorText(spec.podSelector),
    age(metadata.creationTimestamp, now),
  ],
  countsGenerations: true,
  applyDefaults({ spec }) {
    // Any policy isolates for ingress; one with egress rules for egress too.
    if (!spec.policyTypes?.length) spec.policyTypes = spec.egress?.length ? ['Ingress', 'Egress'] : ['Ingress'];
  },
  validate: ({ spec }, at) => validatePolicy(spec, at.child('spec')),
});

function validatePolicy(spec: Spec, at: Path): FieldError[] {
  const errors = [...validateLabelSelector(spec.podSelector, at.child('podSelector'))];
  if ((spec.policyTypes ?? []).length > 2)
    errors.push(invalid(at.child('policyTypes'), spec.policyTypes, 'may not specify more than two policyTypes'));
  (spec.ingress ?? []).forEach((rule, i) => {
    const here = at.child('ingress').index(i);
    errors.push(...validateRule(rule.ports, rule.from, here, here.child('from')));
  });
  (spec.egress ?? []).forEach((rule, i) => {
    const here = at.child('egress').index(i);
    errors.push(...validateRule(rule.ports, rule.to, here, here.child('to')));
  });
  return errors;
}

function validateRule(
  allPorts: readonly Port[] | undefined,
  peers: readonly Peer[] | undefined,
  at: Path,
  peersAt: Path,
): FieldError[] {
  return [
    ...(allPorts ?? []).flatMap((port, i) => validatePort(port, at.child('ports').index(i))),
    ...(peers ?? []).flatMap((peer, i) => validatePeer(peer, peersAt.index(i))),
  ];
}

function validatePort({ port, endPort }: Port, at: Path): FieldError[] {
  const errors: FieldError[] = [];
  if (port !== undefined) {
    const messages = typeof port === 'number' ? portNumber(port) : portName(port);
    errors.push(...messages.map((message) => invalid(at.child('port'), port, message)));
  }
  if (endPort === undefined) return errors;
  if (port === undefined)
    errors.push(required(at.child('endPort'), 'may not be specified when `port` is not specified'));
  else if (typeof port === 'string')
    errors.push(invalid(at.child('endPort'), endPort, 'may not be specified when `port` is non-numeric'));
  else if (endPort < port)
    errors.push(invalid(at.child('endPort'), endPort, 'must be greater than or equal to `port`'));
  errors.push(...portNumber(endPort).map((message) => invalid(at.child('endPort'), endPort, message)));
  return errors;
}

function validatePeer({ podSelector, namespaceSelector, ipBlock }: Peer, at: Path): FieldError[] {
  if (!podSelector && !namespaceSelector && !ipBlock) return [required(at, 'must specify a peer')];
  if (ipBlock && (podSelector || namespaceSelector))
    return [forbidden(at, 'may not specify both ipBlock and another peer')];
  const errors = [
    ...validateLabelSelector(podSelector, at.child('podSelector')),
    ...validateLabelSelector(namespaceSelector, at.child('namespaceSelector')),
  ];
  return ipBlock ? [...errors, ...validateBlock(ipBlock, at.child('ipBlock'))] : errors;
}

function validateBlock({ cidr, except = [] }: NonNullable<Peer['ipBlock']>, at: Path): FieldError[] {
  const wrong = 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)';
  if (!cidr) return [];
  if (!isCidr(cidr)) return [invalid(at.child('cidr'), cidr, wrong)];
  const outer = parseCidr(cidr);
  return except.flatMap((inner, i) => {
    const here = at.child('except').index(i);
    if (!isCidr(inner)) return [invalid(here, inner, wrong)];
    const block = parseCidr(inner);
    const isInside = block.family === outer.family && cidrContains(outer, block.address) && block.prefix > outer.prefix;
    return isInside ? [] : [invalid(here, inner, `must be a strict subset of \`cidr\``)];
  });
}
