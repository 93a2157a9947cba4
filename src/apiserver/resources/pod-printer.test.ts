import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Pod } from '../../kube/types.ts';
import { humanDuration } from './age.ts';
import { podRow } from './pod-printer.ts';

const NOW = Date.parse('2026-01-01T01:00:00Z');
const pod = (status: object, more: { spec?: object; metadata?: object } = {}): Pod =>
  ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'p',
      namespace: 'd',
      uid: 'u',
      resourceVersion: '1',
      creationTimestamp: '2026-01-01T00:55:00Z',
      ...more.metadata,
    },
    spec: { containers: [{ name: 'a' }, { name: 'b' }], ...more.spec },
    status,
  }) as unknown as Pod;
const container = (state: object, more: object = {}) => ({
  name: 'a',
  ready: false,
  restartCount: 0,
  image: '',
  imageID: '',
  state,
  ...more,
});
const running = (more: object = {}) => container({ running: {} }, { ready: true, ...more });

describe('kubectl get pods: READY, STATUS, RESTARTS', () => {
  const withInit = { spec: { initContainers: [{ name: 'i' }, { name: 'j' }] } };
  const cases: readonly [what: string, pod: Pod, ready: string, status: string, restarts: string][] = [
    ['nothing known yet', pod({ phase: 'Pending' }), '0/2', 'Pending', '0'],
    [
      'running',
      pod({ phase: 'Running', containerStatuses: [running(), running({ name: 'b' })] }),
      '2/2',
      'Running',
      '0',
    ],
    [
      'creating',
      pod({ phase: 'Pending', containerStatuses: [container({ waiting: { reason: 'ContainerCreating' } })] }),
      '0/2',
      'ContainerCreating',
      '0',
    ],
    [
      'no image',
      pod({ phase: 'Pending', containerStatuses: [container({ waiting: { reason: 'ImagePullBackOff' } })] }),
      '0/2',
      'ImagePullBackOff',
      '0',
    ],
    [
      'crashing',
      pod({
        phase: 'Running',
        containerStatuses: [
          container(
            { waiting: { reason: 'CrashLoopBackOff' } },
            { restartCount: 3, lastState: { terminated: { exitCode: 1, finishedAt: '2026-01-01T00:59:30Z' } } },
          ),
        ],
      }),
      '0/2',
      'CrashLoopBackOff',
      '3 (30s ago)',
    ],
    [
      'completed',
      pod({ phase: 'Succeeded', containerStatuses: [container({ terminated: { exitCode: 0, reason: 'Completed' } })] }),
      '0/2',
      'Completed',
      '0',
    ],
    [
      'error',
      pod({ phase: 'Failed', containerStatuses: [container({ terminated: { exitCode: 1, reason: 'Error' } })] }),
      '0/2',
      'Error',
      '0',
    ],
    [
      'an exit without a reason',
      pod({ phase: 'Failed', containerStatuses: [container({ terminated: { exitCode: 3 } })] }),
      '0/2',
      'ExitCode:3',
      '0',
    ],
    [
      'a signal',
      pod({ phase: 'Failed', containerStatuses: [container({ terminated: { exitCode: 0, signal: 9 } })] }),
      '0/2',
      'Signal:9',
      '0',
    ],
    [
      'one of two completed',
      pod({
        phase: 'Running',
        conditions: [{ type: 'Ready', status: 'False' }],
        containerStatuses: [container({ terminated: { exitCode: 0, reason: 'Completed' } }), running({ name: 'b' })],
      }),
      '1/2',
      'NotReady',
      '0',
    ],
    [
      'first init container',
      pod(
        {
          phase: 'Pending',
          initContainerStatuses: [
            container({ running: {} }, { name: 'i' }),
            container({ waiting: { reason: 'PodInitializing' } }, { name: 'j' }),
          ],
        },
        withInit,
      ),
      '0/2',
      'Init:0/2',
      '0',
    ],
    [
      'second init container',
      pod(
        {
          phase: 'Pending',
          initContainerStatuses: [
            container({ terminated: { exitCode: 0 } }, { name: 'i' }),
            container({ running: {} }, { name: 'j', restartCount: 2 }),
          ],
        },
        withInit,
      ),
      '0/2',
      'Init:1/2',
      '2',
    ],
    [
      'init container crashing',
      pod(
        {
          phase: 'Pending',
          initContainerStatuses: [container({ waiting: { reason: 'CrashLoopBackOff' } }, { name: 'i' })],
        },
        withInit,
      ),
      '0/2',
      'Init:CrashLoopBackOff',
      '0',
    ],
    [
      'init container failed',
      pod(
        { phase: 'Failed', initContainerStatuses: [container({ terminated: { exitCode: 1 } }, { name: 'i' })] },
        withInit,
      ),
      '0/2',
      'Init:ExitCode:1',
      '0',
    ],
    [
      'a sidecar counts',
      pod(
        {
          phase: 'Running',
          conditions: [{ type: 'Initialized', status: 'True' }],
          initContainerStatuses: [running({ name: 's', started: true })],
          containerStatuses: [running(), running({ name: 'b' })],
        },
        { spec: { initContainers: [{ name: 's', restartPolicy: 'Always' }] } },
      ),
      '3/3',
      'Running',
      '0',
    ],
    [
      'terminating',
      pod(
        { phase: 'Running', containerStatuses: [running()] },
        { metadata: { deletionTimestamp: '2026-01-01T01:00:30Z' } },
      ),
      '1/2',
      'Terminating',
      '0',
    ],
    ['evicted', pod({ phase: 'Failed', reason: 'Evicted' }), '0/2', 'Evicted', '0'],
    [
      'node lost',
      pod({ phase: 'Running', reason: 'NodeLost' }, { metadata: { deletionTimestamp: '2026-01-01T01:00:30Z' } }),
      '0/2',
      'Unknown',
      '0',
    ],
  ];
  for (const [what, object, ready, status, restarts] of cases)
    it(what, () => assert.deepEqual(podRow(object, NOW).slice(1, 4), [ready, status, restarts]));

  it('shows addresses, node and gates', () => {
    const row = podRow(
      pod(
        { podIPs: [{ ip: '10.244.1.2' }], conditions: [{ type: 'g', status: 'True' }] },
        { spec: { nodeName: 'n', readinessGates: [{ conditionType: 'g' }, { conditionType: 'h' }] } },
      ),
      NOW,
    );
    assert.deepEqual(row.slice(4), ['5m', '10.244.1.2', 'n', '<none>', '1/2']);
  });
});

describe('durations', () => {
  const cases: readonly [number, string][] = [
    [0, '0s'],
    [-5, '<invalid>'],
    [119, '119s'],
    [120, '2m'],
    [125, '2m5s'],
    [599, '9m59s'],
    [600, '10m'],
    [10_799, '179m'],
    [10_800, '3h'],
    [11_000, '3h3m'],
    [28_800, '8h'],
    [172_799, '47h'],
    [172_800, '2d'],
    [180_000, '2d2h'],
    [691_200, '8d'],
    [63_072_000, '2y'],
    [70_000_000, '2y80d'],
    [315_360_000, '10y'],
  ];
  for (const [seconds, text] of cases)
    it(`${seconds} s is ${text}`, () => assert.equal(humanDuration(seconds * 1000), text));
});
