/**
 * ClusterNetworkPolicy, policy.networking.k8s.io, in both versions that are in use: v1beta1 and v1alpha2 have the same
 * fields. A built-in kind here; elsewhere it is a CustomResourceDefinition, whose rules and bounds these are.
 */
import { cidrContains, isCidr, parseCidr } from '../../base/ip.ts';
import type {
  ClusterNetworkPolicyPeer,
  ClusterNetworkPolicyProtocol,
  ClusterNetworkPolicyRule,
} from '../../kube/cluster-network-policy.ts';
import type { ClusterNetworkPolicy } from '../../kube/types.ts';
import { Condition, LabelSelector, topLevel } from '../schema/meta.ts';
import { object as define, int32, list, type Schema, string, strings, use } from '../schema/schema.ts';
import {
  duplicate,
  type FieldError,
  forbidden,
  invalid,
  type Path,
  required,
  tooLong,
  tooMany,
} from '../validation/field.ts';
import { validateLabelSelector } from '../validation/meta.ts';
import { portName } from '../validation/names.ts';
import { age } from './age.ts';
import { type Draftable, defineKind, type Kind } from './kind.ts';

const group = 'policy.networking.k8s.io';
const versions = ['v1beta1', 'v1alpha2'] as const;
type Version = (typeof versions)[number];
type Draft = Draftable<ClusterNetworkPolicy>;

const mostItems = 25;
const longestName = 100;
const highestPriority = 1000;
const lastPort = 65535;

function schemaOf(version: Version) {
  const object = (name: string, fields: Readonly<Record<string, Schema>>, options = {}) =>
    define(`io.x-k8s.networking.policy.${version}.${name}`, fields, options);
  const Pods = object('NamespacedPod', {
    namespaceSelector: use(LabelSelector, { description: 'Namespaces by their labels; empty is all.' }),
    podSelector: use(LabelSelector, { required: true, description: 'Pods by their labels; empty is all.' }),
  });
  const subject = {
    namespaces: use(LabelSelector, { description: 'All pods of the namespaces with these labels.' }),
    pods: use(Pods, { description: 'Pods by namespace and pod labels.' }),
  };
  const Port = object('Port', {
    number: int32({ keep: true }),
    range: object('PortRange', { start: int32({ keep: true }), end: int32({ keep: true }) }),
  });
  const transport = (name: string) => object(name, { destinationPort: Port });
  const protocols = list(
    object('ClusterNetworkPolicyProtocol', {
      tcp: transport('ClusterNetworkPolicyProtocolTCP'),
      udp: transport('ClusterNetworkPolicyProtocolUDP'),
      sctp: transport('ClusterNetworkPolicyProtocolSCTP'),
      destinationNamedPort: string({ description: 'Name of a port of the destination pod.' }),
    }),
    { description: 'Protocols and ports; everything when absent.' },
  );
  const rule = {
    name: string({ description: 'For people, up to 100 characters.' }),
    action: string({ required: true, keep: true, enum: ['Accept', 'Deny', 'Pass'] }),
  };
  const ingressPeer = object('ClusterNetworkPolicyIngressPeer', subject);
  const egressPeer = object('ClusterNetworkPolicyEgressPeer', {
    ...subject,
    nodes: use(LabelSelector, { description: 'The addresses of nodes, by the labels of the nodes.' }),
    networks: strings({ description: 'CIDRs; they match pods too.' }),
    domainNames: strings({ description: 'The addresses that DNS gives for these names; for Accept rules only.' }),
  });
  return topLevel(
    `io.x-k8s.networking.policy.${version}.ClusterNetworkPolicy`,
    'ClusterNetworkPolicy is what administrators say about the network traffic of all pods.',
    {
      spec: object(
        'ClusterNetworkPolicySpec',
        {
          tier: string({ required: true, keep: true, enum: ['Admin', 'Baseline'] }),
          priority: int32({ required: true, keep: true, description: '0 to 1000; lower numbers are asked first.' }),
          subject: object('ClusterNetworkPolicySubject', subject, { required: true }),
          ingress: list(
            object('ClusterNetworkPolicyIngressRule', {
              ...rule,
              from: list(ingressPeer, { required: true }),
              protocols,
            }),
          ),
          egress: list(
            object('ClusterNetworkPolicyEgressRule', { ...rule, to: list(egressPeer, { required: true }), protocols }),
          ),
        },
        { required: true },
      ),
      status: object('ClusterNetworkPolicyStatus', {
        conditions: list(Condition, { mergeKey: 'type', mapKeys: ['type'] }),
      }),
    },
  );
}

function kindOf(version: Version): Kind {
  return defineKind<Draft>({
    group,
    version,
    kind: 'ClusterNetworkPolicy',
    plural: 'clusternetworkpolicies',
    namespaced: false,
    shortNames: ['cnp'],
    otherVersions: versions.filter((each) => each !== version),
    schema: schemaOf(version),
    columns: [
      { name: 'Name', format: 'name' },
      { name: 'Tier' },
      { name: 'Priority', type: 'integer' },
      { name: 'Age' },
    ],
    row: ({ metadata, spec }, now) => [metadata.name, spec.tier, spec.priority, age(metadata.creationTimestamp, now)],
    countsGenerations: true,
    status: {},
    validate: ({ spec }: Partial<Draft>, at) =>
      spec ? validateSpec(spec, at.child('spec'), version) : [required(at.child('spec'))],
  });
}

/** The preferred version first. */
export const clusterNetworkPolicies: readonly Kind[] = versions.map(kindOf);

function validateSpec(spec: Draft['spec'], at: Path, version: Version): FieldError[] {
  const errors = validateSubject(spec.subject, at.child('subject'));
  if (spec.priority === undefined) errors.push(required(at.child('priority')));
  if (spec.priority < 0 || spec.priority > highestPriority)
    errors.push(invalid(at.child('priority'), spec.priority, 'must be between 0 and 1000, inclusive'));
  for (const direction of ['ingress', 'egress'] as const) {
    const rules = spec[direction] ?? [];
    if (rules.length > mostItems) errors.push(tooMany(at.child(direction), rules.length, mostItems));
    rules.forEach((rule, i) => {
      const here = at.child(direction).index(i);
      const peers = 'from' in rule ? rule.from : 'to' in rule ? rule.to : [];
      errors.push(...validateRule(rule, here));
      errors.push(
        ...validatePeers(peers ?? [], rule.action, here.child(direction === 'ingress' ? 'from' : 'to'), version),
      );
      const named = (rule.protocols ?? []).some((each) => each.destinationNamedPort !== undefined);
      if (named && (peers ?? []).some((peer) => 'networks' in peer || 'nodes' in peer || 'domainNames' in peer))
        errors.push(
          invalid(
            here,
            'object',
            'networks/nodes/domainNames peer cannot be set with namedPorts since there are no namedPorts for networks/nodes/domainNames',
          ),
        );
    });
  }
  return errors;
}

function validateSubject(subject: Draft['spec']['subject'] | undefined, at: Path): FieldError[] {
  if (!subject) return [required(at)];
  return [...exactlyOne(subject, ['namespaces', 'pods'], at), ...validateSelectors(subject, at)];
}

function validateSelectors({ namespaces, pods }: ClusterNetworkPolicyPeer, at: Path): FieldError[] {
  return [
    ...(pods && !pods.podSelector ? [required(at.child('pods', 'podSelector'))] : []),
    ...validateLabelSelector(namespaces, at.child('namespaces')),
    ...validateLabelSelector(pods?.namespaceSelector, at.child('pods', 'namespaceSelector')),
    ...validateLabelSelector(pods?.podSelector, at.child('pods', 'podSelector')),
  ];
}

/** The union types of this API: one field, no more. */
function exactlyOne(value: object, fields: readonly string[], at: Path): FieldError[] {
  const count = fields.filter((field) => (value as Record<string, unknown>)[field] !== undefined).length;
  if (count === 0) return [required(at, `must specify one of: ${fields.join(', ')}`)];
  return count > 1 ? [invalid(at, 'object', `must specify exactly one of: ${fields.join(', ')}`)] : [];
}

function validateRule(rule: ClusterNetworkPolicyRule, at: Path): FieldError[] {
  const errors: FieldError[] = [];
  if ((rule.name ?? '').length > longestName) errors.push(tooLong(at.child('name'), longestName));
  const { protocols = [] } = rule;
  if (protocols.length > mostItems) errors.push(tooMany(at.child('protocols'), protocols.length, mostItems));
  protocols.forEach((protocol, i) => {
    errors.push(...validateProtocol(protocol, at.child('protocols').index(i)));
  });
  return errors;
}

function validatePeers(
  peers: readonly ClusterNetworkPolicyPeer[],
  action: string,
  at: Path,
  version: Version,
): FieldError[] {
  if (peers.length === 0) return [required(at, 'must contain at least one peer')];
  const errors = peers.length > mostItems ? [tooMany(at, peers.length, mostItems)] : [];
  peers.forEach((peer, i) => {
    const here = at.index(i);
    errors.push(...exactlyOne(peer, ['namespaces', 'pods', 'nodes', 'networks', 'domainNames'], here));
    errors.push(...validateSelectors(peer, here), ...validateNetworks(peer.networks, here.child('networks'), version));
    errors.push(...validateLabelSelector(peer.nodes, here.child('nodes')));
    errors.push(...validateDomainNames(peer.domainNames, action, here.child('domainNames')));
  });
  return errors;
}

function validateNetworks(networks: readonly string[] | undefined, at: Path, version: Version): FieldError[] {
  if (networks === undefined) return [];
  if (networks.length === 0) return [required(at, 'must contain at least one CIDR')];
  const errors = networks.length > mostItems ? [tooMany(at, networks.length, mostItems)] : [];
  networks.forEach((network, i) => {
    if (!isCidr(network)) errors.push(invalid(at.index(i), network, 'Invalid CIDR format provided'));
    else if (version === 'v1beta1' && !isMasked(network))
      errors.push(invalid(at.index(i), network, 'Invalid CIDR format provided: it has bits beyond its prefix length'));
  });
  return errors;
}

const domainName = /^(\*\.)?([a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$/;

function validateDomainNames(names: readonly string[] | undefined, action: string, at: Path): FieldError[] {
  if (names === undefined) return [];
  if (names.length === 0) return [required(at, 'must contain at least one domain name')];
  const errors = names.length > mostItems ? [tooMany(at, names.length, mostItems)] : [];
  if (action !== 'Accept') errors.push(forbidden(at, 'domainNames peers are only supported for Accept rules'));
  names.forEach((name, i) => {
    if (!domainName.test(name))
      errors.push(invalid(at.index(i), name, 'must be a domain name; the wildcard "*." may stand before it only'));
    else if (names.indexOf(name) < i) errors.push(duplicate(at.index(i), name));
  });
  return errors;
}

/** v1beta1 refuses 10.0.0.1/8, v1alpha2 takes it for 10.0.0.0/8. */
function isMasked(text: string): boolean {
  const [address = ''] = text.split('/');
  const { family, address: first } = parseCidr(text);
  return cidrContains({ family, address: first, prefix: family === 4 ? 32 : 128 }, address);
}

function validateProtocol(protocol: ClusterNetworkPolicyProtocol, at: Path): FieldError[] {
  const errors = exactlyOne(protocol, ['tcp', 'udp', 'sctp', 'destinationNamedPort'], at);
  const { destinationNamedPort } = protocol;
  if (destinationNamedPort !== undefined) {
    const wrong = portName(destinationNamedPort);
    errors.push(...wrong.map((message) => invalid(at.child('destinationNamedPort'), destinationNamedPort, message)));
  }
  for (const name of ['tcp', 'udp', 'sctp'] as const) {
    const transport = protocol[name];
    if (!transport) continue;
    const here = at.child(name);
    if (!transport.destinationPort) errors.push(required(here.child('destinationPort')));
    else errors.push(...validatePort(transport.destinationPort, here.child('destinationPort')));
  }
  return errors;
}

type Port = NonNullable<NonNullable<ClusterNetworkPolicyProtocol['tcp']>['destinationPort']>;

function validatePort(port: Port, at: Path): FieldError[] {
  const errors = exactlyOne(port, ['number', 'range'], at);
  const check = (value: number | undefined, here: Path) => {
    if (value === undefined) errors.push(required(here));
    else if (value < 1 || value > lastPort) errors.push(invalid(here, value, 'must be between 1 and 65535, inclusive'));
  };
  if (port.number !== undefined) check(port.number, at.child('number'));
  if (!port.range) return errors;
  const { start, end } = port.range;
  check(start, at.child('range', 'start'));
  check(end, at.child('range', 'end'));
  if (start !== undefined && end !== undefined && start >= end)
    errors.push(invalid(at.child('range'), 'object', 'Start port must be less than End port'));
  return errors;
}
