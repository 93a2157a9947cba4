/** Where pods go, and why: a table of clusters for the tests of the scheduler. */
import type { Node, Pod } from '../../kube/types.ts';
import { node, pod } from '../fixtures.ts';

export const on = (nodeName: string, spec: Partial<Pod['spec']> = {}) => ({ spec: { ...spec, nodeName } });
export const requests = (cpu: string) => ({
  containers: [{ name: 'main', image: 'x', resources: { requests: { cpu } } }],
});
const hostPort = (port: number, hostIP?: string) => ({
  containers: [
    { name: 'main', image: 'x', ports: [{ containerPort: 80, hostPort: port, ...(hostIP ? { hostIP } : {}) }] },
  ],
});
const zone = (name: string) => ({ labels: { zone: name } });
const web = { labels: { app: 'web' } };
const term = (labels: Record<string, string>, topologyKey = 'zone') => ({
  topologyKey,
  labelSelector: { matchLabels: labels },
});

export interface Case {
  readonly name: string;
  readonly pod: Pod;
  readonly nodes: readonly Node[];
  readonly pods?: readonly Pod[];
  readonly namespaces?: Record<string, Record<string, string>>;
  readonly result: string;
}

export const cases: readonly Case[] = [
  { name: 'no nodes', pod: pod('a'), nodes: [], result: 'no nodes available to schedule pods' },
  { name: 'one node', pod: pod('a'), nodes: [node('n1')], result: 'n1' },
  {
    name: 'a bare pod avoids the node of its sibling',
    pod: pod('b'),
    nodes: [node('n1'), node('n2')],
    pods: [pod('a', on('n1'))],
    result: 'n2',
  },
  {
    name: 'pods of one owner spread before the total counts',
    pod: pod('b', {
      metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'X', name: 'x', uid: 'u', controller: true }] },
    }),
    nodes: [node('n1'), node('n2')],
    pods: [
      pod('a', {
        ...on('n1'),
        metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'X', name: 'x', uid: 'u', controller: true }] },
      }),
      pod('c', on('n2')),
      pod('d', on('n2')),
    ],
    result: 'n2',
  },
  {
    name: 'not ready, unknown and unschedulable nodes, in the words of Kubernetes',
    pod: pod('a'),
    nodes: [
      node('n1', { ready: 'False' }),
      node('n2', { ready: 'Unknown' }),
      node('n3', { spec: { unschedulable: true } }),
    ],
    result:
      '0/3 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, ' +
      '1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 1 node(s) were unschedulable.',
  },
  {
    name: 'taints and resources are counted apart',
    pod: pod('a', { spec: requests('3') }),
    nodes: [
      node('n1', { spec: { taints: [{ key: 'gpu', value: 'yes', effect: 'NoSchedule' }] } }),
      node('n2', { allocatable: { cpu: '2' } }),
      node('n3', { allocatable: { cpu: '2' } }),
    ],
    result: '0/3 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 2 Insufficient cpu.',
  },
  {
    name: 'a tolerated NoExecute taint',
    pod: pod('a', { spec: { tolerations: [{ key: 'gpu', operator: 'Exists' }] } }),
    nodes: [node('n1', { spec: { taints: [{ key: 'gpu', value: 'yes', effect: 'NoExecute' }] } })],
    result: 'n1',
  },
  {
    name: 'a toleration of another value does not help',
    pod: pod('a', { spec: { tolerations: [{ key: 'gpu', value: 'no' }] } }),
    nodes: [node('n1', { spec: { taints: [{ key: 'gpu', value: 'yes', effect: 'NoExecute' }] } })],
    result: '0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.',
  },
  {
    name: 'PreferNoSchedule is avoided while there is another node',
    pod: pod('a'),
    nodes: [node('n1', { spec: { taints: [{ key: 'x', effect: 'PreferNoSchedule' }] } }), node('n2')],
    pods: [pod('b', on('n2'))],
    result: 'n2',
  },
  {
    name: 'a daemon tolerates everything',
    pod: pod('a', { spec: { tolerations: [{ operator: 'Exists' }] } }),
    nodes: [node('n1', { ready: 'Unknown', spec: { unschedulable: true } })],
    result: 'n1',
  },
  {
    name: 'nodeSelector',
    pod: pod('a', { spec: { nodeSelector: { disk: 'ssd' } } }),
    nodes: [node('n1'), node('n2', { labels: { disk: 'ssd' } })],
    result: 'n2',
  },
  {
    name: 'required node affinity: terms are alternatives, fields name the node',
    pod: pod('a', {
      spec: {
        affinity: {
          nodeAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: {
              nodeSelectorTerms: [
                { matchExpressions: [{ key: 'cores', operator: 'Gt', values: ['8'] }] },
                { matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n3'] }] },
                {},
              ],
            },
          },
        },
      },
    }),
    nodes: [node('n1'), node('n2', { labels: { cores: '8' } }), node('n3')],
    result: 'n3',
  },
  {
    name: 'preferred node affinity beats spreading',
    pod: pod('a', {
      spec: {
        affinity: {
          nodeAffinity: {
            preferredDuringSchedulingIgnoredDuringExecution: [
              { weight: 10, preference: { matchExpressions: [{ key: 'disk', operator: 'Exists' }] } },
            ],
          },
        },
      },
    }),
    nodes: [node('n1'), node('n2', { labels: { disk: 'ssd' } })],
    pods: [pod('b', on('n2'))],
    result: 'n2',
  },
  {
    name: 'no node matches',
    pod: pod('a', { spec: { nodeSelector: { disk: 'ssd' } } }),
    nodes: [node('n1')],
    result: "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
  },
  {
    name: 'host ports collide, also through the unspecified address',
    pod: pod('a', { spec: hostPort(80) }),
    nodes: [node('n1')],
    pods: [pod('b', on('n1', hostPort(80, '10.0.0.1')))],
    result: "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
  },
  {
    name: 'host ports on different addresses do not collide',
    pod: pod('a', { spec: hostPort(80, '10.0.0.2') }),
    nodes: [node('n1')],
    pods: [pod('b', on('n1', hostPort(80, '10.0.0.1')))],
    result: 'n1',
  },
  {
    name: 'ended pods hold nothing',
    pod: pod('a', { spec: hostPort(80) }),
    nodes: [node('n1')],
    pods: [pod('b', { ...on('n1', hostPort(80)), status: { phase: 'Succeeded' } })],
    result: 'n1',
  },
  {
    name: 'what is asked for adds up',
    pod: pod('a', { spec: requests('600m') }),
    nodes: [node('n1', { allocatable: { cpu: '1' } }), node('n2', { allocatable: { cpu: '1' } })],
    pods: [pod('b', on('n1', requests('500m'))), pod('c', on('n2', requests('400m')))],
    result: 'n2',
  },
  {
    name: 'too many pods',
    pod: pod('a'),
    nodes: [node('n1', { allocatable: { pods: '1' } })],
    pods: [pod('b', on('n1'))],
    result: '0/1 nodes are available: 1 Too many pods.',
  },
  {
    name: 'pod affinity',
    pod: pod('a', {
      spec: { affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term({ app: 'web' })] } } },
    }),
    nodes: [node('n1', zone('a')), node('n2', zone('b')), node('n3', zone('b'))],
    pods: [pod('w', { ...web, ...on('n2') })],
    result: 'n3',
  },
  {
    name: 'the first pod of a group that wants its own kind goes anywhere',
    pod: pod('a', {
      ...web,
      spec: { affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term({ app: 'web' })] } } },
    }),
    nodes: [node('n0'), node('n1', zone('a'))],
    result: 'n1',
  },
  {
    name: 'pod affinity to nobody',
    pod: pod('a', {
      spec: { affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term({ app: 'web' })] } } },
    }),
    nodes: [node('n1', zone('a'))],
    result: "0/1 nodes are available: 1 node(s) didn't match pod affinity rules.",
  },
  {
    name: 'pod affinity by namespace labels',
    pod: pod('a', {
      spec: {
        affinity: {
          podAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: [
              { ...term({ app: 'web' }), namespaceSelector: { matchLabels: { team: 'x' } } },
            ],
          },
        },
      },
    }),
    nodes: [node('n1', zone('a')), node('n2', zone('b'))],
    pods: [pod('w', { ...web, ...on('n1') }), pod('v', { ...web, ...on('n2'), namespace: 'other' })],
    namespaces: { other: { team: 'x' } },
    result: 'n2',
  },
  {
    name: 'pod anti-affinity',
    pod: pod('a', {
      spec: {
        affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term({ app: 'web' })] } },
      },
    }),
    nodes: [node('n1', zone('a')), node('n2', zone('a'))],
    pods: [pod('w', { ...web, ...on('n1') })],
    result: "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.",
  },
  {
    name: 'anti-affinity of a pod that is there',
    pod: pod('a', web),
    nodes: [node('n1', zone('a'))],
    pods: [
      pod('w', {
        spec: {
          nodeName: 'n1',
          affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term({ app: 'web' })] } },
        },
      }),
    ],
    result: "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.",
  },
  {
    name: 'preferred anti-affinity',
    pod: pod('a', {
      spec: {
        affinity: {
          podAntiAffinity: {
            preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 1, podAffinityTerm: term({ app: 'web' }) }],
          },
        },
      },
    }),
    nodes: [node('n1', zone('a')), node('n2', zone('b'))],
    pods: [pod('w', { ...web, ...on('n1') }), pod('x', on('n2')), pod('y', on('n2'))],
    result: 'n2',
  },
  {
    name: 'topology spread refuses a skew',
    pod: pod('a', {
      ...web,
      spec: {
        nodeSelector: { 'kubernetes.io/hostname': 'n1' },
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: 'zone',
            whenUnsatisfiable: 'DoNotSchedule',
            labelSelector: { matchLabels: { app: 'web' } },
            nodeAffinityPolicy: 'Ignore',
          },
        ],
      },
    }),
    nodes: [node('n1', zone('a')), node('n2', zone('b'))],
    pods: [pod('w', { ...web, ...on('n1') })],
    result:
      "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, " +
      "1 node(s) didn't match pod topology spread constraints.",
  },
  {
    name: 'topology spread needs the label',
    pod: pod('a', {
      ...web,
      spec: {
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: 'zone',
            whenUnsatisfiable: 'DoNotSchedule',
            labelSelector: { matchLabels: { app: 'web' } },
          },
        ],
      },
    }),
    nodes: [node('n1')],
    result: "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label).",
  },
  {
    name: 'ScheduleAnyway prefers the emptier zone',
    pod: pod('a', {
      ...web,
      spec: {
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: 'zone',
            whenUnsatisfiable: 'ScheduleAnyway',
            labelSelector: { matchLabels: { app: 'web' } },
          },
        ],
      },
    }),
    nodes: [node('n1', zone('a')), node('n2', zone('a')), node('n3', zone('b'))],
    pods: [pod('w', { ...web, ...on('n1') }), pod('x', on('n3')), pod('y', on('n3'))],
    result: 'n3',
  },
];
