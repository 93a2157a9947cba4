/**
 * How a case of the conformance matrix is written down: policies and, in plain predicates, who may talk to whom. What is said
 * of peers holds for both directions, so a draft is played twice: as ingress rules (the peer sends) and as egress rules (the
 * peer receives).
 */
import type { NetworkPolicy, networkingv1 } from '../../kube/types.ts';
import type { Direction } from './compile.ts';
import { policyObject } from './testing.ts';
import { type Endpoint, type Probe, world } from './testing-matrix.ts';

export type Peer = networkingv1.NetworkPolicyPeer;
export type Port = networkingv1.NetworkPolicyPort;
export type Selector = networkingv1.NetworkPolicySpec['podSelector'];

export interface Rule {
  readonly peers?: Peer[];
  readonly ports?: Port[];
}

export interface PolicyDraft {
  readonly ns?: string;
  readonly pods?: Selector;
  readonly rules: readonly Rule[];
}

/** A case without a direction. The receiver is the one whose ports are probed. */
export interface Draft {
  readonly name: string;
  readonly policies: readonly PolicyDraft[];
  readonly isolated: (own: Endpoint) => boolean;
  readonly allowed: (peer: Endpoint, own: Endpoint, probe: Probe, receiver: Endpoint) => boolean;
}

export interface MatrixCase {
  readonly name: string;
  readonly policies: readonly NetworkPolicy[];
  readonly allows: (from: Endpoint, to: Endpoint, probe: Probe) => boolean;
}

export function policyOf(direction: Direction, key: string, draft: PolicyDraft): NetworkPolicy {
  const rules = draft.rules.map(({ peers, ports }) => ({
    ...(peers ? { [direction === 'ingress' ? 'from' : 'to']: peers } : {}),
    ...(ports ? { ports } : {}),
  }));
  return policyObject(`${draft.ns ?? 'x'}/${key}`, {
    podSelector: draft.pods ?? { matchLabels: { pod: 'a' } },
    policyTypes: [direction === 'ingress' ? 'Ingress' : 'Egress'],
    [direction]: rules,
  });
}

export function inDirection(direction: Direction, draft: Draft): MatrixCase {
  return {
    name: `${direction}: ${draft.name}`,
    policies: draft.policies.map((policy, i) => policyOf(direction, `np${i}`, policy)),
    allows: (from, to, probe) => {
      const [own, peer] = direction === 'ingress' ? [to, from] : [from, to];
      return own === peer || !draft.isolated(own) || draft.allowed(peer, own, probe, to);
    },
  };
}

export const xa = (own: Endpoint) => own.name === 'x/a';
export const inX = (own: Endpoint) => own.ns === 'x';
export const isPod = (peer: Endpoint) => peer !== world;
export const everybody = () => true;
export const nobody = () => false;

/** A case with one rule on x/a. */
export const peerCase = (name: string, peers: Peer[] | undefined, who: (peer: Endpoint) => boolean): Draft => ({
  name,
  policies: [{ rules: [peers ? { peers } : {}] }],
  isolated: xa,
  allowed: who,
});

export const portCase = (
  name: string,
  ports: Port[] | undefined,
  what: (probe: Probe, receiver: Endpoint) => boolean,
): Draft => ({
  name,
  policies: [{ rules: [ports ? { ports } : {}] }],
  isolated: xa,
  allowed: (_peer, _own, probe, receiver) => what(probe, receiver),
});

export const labels = (matchLabels: Record<string, string>): Selector => ({ matchLabels });
export const expression = (key: string, operator: string, ...values: string[]): Selector => ({
  matchExpressions: [{ key, operator, ...(values.length ? { values } : {}) }],
});
export const block = (cidr: string, ...except: string[]): Peer => ({
  ipBlock: { cidr, ...(except.length ? { except } : {}) },
});

/** Predicates of what is probed. */
export const isTcp = (probe: Probe) => probe.protocol === 'TCP';
/** Where "web" is on a pod; nowhere outside. */
export const webOf = (receiver: Endpoint) => (isPod(receiver) ? (receiver.pod === 'c' ? 81 : 80) : undefined);
export const isWeb = (probe: Probe, receiver: Endpoint) => isTcp(probe) && probe.port === webOf(receiver);
export const is = (probe: Probe, protocol: string, ...ports: number[]) =>
  probe.protocol === protocol && ports.includes(probe.port);

export const b = { podSelector: labels({ pod: 'b' }) };
export const yNamespace = { namespaceSelector: labels({ ns: 'y' }) };
export const tcp80 = { port: 80 };
export const udp80 = { protocol: 'UDP', port: 80 };
