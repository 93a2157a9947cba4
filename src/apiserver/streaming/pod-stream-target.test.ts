import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StatusError } from '../../kube/status.ts';
import type { Node, Pod } from '../../kube/types.ts';
import { type PodStreamSubresource, podStreamTarget } from './pod-stream-target.ts';

const meta = { uid: 'u', resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z' };

interface PodShape {
  readonly containers?: readonly string[];
  readonly init?: readonly string[];
  readonly nodeName?: string;
  readonly phase?: string;
  readonly annotations?: Record<string, string>;
}

function podOf({ containers = ['a'], init = [], nodeName = 'n1', phase = 'Running', annotations = {} }: PodShape): Pod {
  const named = (names: readonly string[]) => names.map((name) => ({ name, image: 'i' }));
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...meta, name: 'x', namespace: 'default', annotations },
    spec: { nodeName, containers: named(containers), initContainers: named(init) },
    status: { phase },
  };
}

function nodeOf(status: Node['status']): Node {
  return { apiVersion: 'v1', kind: 'Node', metadata: { ...meta, name: 'n1' }, spec: {}, status };
}

const node = nodeOf({
  addresses: [
    { type: 'Hostname', address: 'n1' },
    { type: 'InternalIP', address: '172.18.0.2' },
  ],
});

const target = (subresource: PodStreamSubresource, query = '', pod: PodShape = {}, on: Node | undefined = node) =>
  podStreamTarget(podOf(pod), on, subresource, new URLSearchParams(query));

test('the kubelet’s URLs', () => {
  const cases: [PodStreamSubresource, string, string][] = [
    ['log', '', '/containerLogs/default/x/a'],
    [
      'log',
      'follow=true&tailLines=5&timestamps=1&previous=false',
      '/containerLogs/default/x/a?follow=true&timestamps=true&tailLines=5',
    ],
    ['log', 'sinceTime=2026-01-01T00:00:00Z', '/containerLogs/default/x/a?sinceTime=2026-01-01T00%3A00%3A00Z'],
    [
      'exec',
      'command=ls&command=-l&stdout=true&stdin=1&stderr',
      '/exec/default/x/a?input=1&output=1&error=1&command=ls&command=-l',
    ],
    [
      'exec',
      'command=sh&stdin=true&stdout=true&stderr=true&tty=true',
      '/exec/default/x/a?input=1&output=1&tty=1&command=sh',
    ],
    ['attach', 'stdout=true&stderr=0', '/attach/default/x/a?output=1'],
    ['portforward', '', '/portForward/default/x'],
    ['portforward', 'ports=80&ports=443', '/portForward/default/x?port=80%2C443'],
  ];
  for (const [subresource, query, path] of cases) {
    assert.deepEqual(target(subresource, query), { host: '172.18.0.2', port: 10250, path }, `${subresource} ${query}`);
  }
  const other = nodeOf({
    addresses: [{ type: 'InternalIP', address: 'fd00:18::2' }],
    daemonEndpoints: { kubeletEndpoint: { Port: 20250 } },
  });
  assert.deepEqual(target('log', '', {}, other), {
    host: 'fd00:18::2',
    port: 20250,
    path: '/containerLogs/default/x/a',
  });
});

test('the container that is meant', () => {
  const several = { containers: ['a', 'b'], init: ['i'] };
  assert.match(target('log', 'container=b', several).path, /\/b$/);
  assert.match(target('log', 'container=i', several).path, /\/i$/);
  const annotations = { 'kubectl.kubernetes.io/default-container': 'b' };
  assert.match(target('log', '', { ...several, annotations }).path, /\/b$/);
});

test('what is refused, in Kubernetes’ words', () => {
  const cases: [() => unknown, number, string][] = [
    [
      () => target('log', '', { containers: ['a', 'b'] }),
      400,
      'a container name must be specified for pod x, choose one of: [a b]',
    ],
    [() => target('exec', 'container=z&command=x&stdout=1'), 400, 'container z is not valid for pod x'],
    [() => target('log', '', { nodeName: '' }), 400, 'pod x does not have a host assigned'],
    [() => target('exec', 'command=x'), 400, 'you must specify at least 1 of stdin, stdout, stderr'],
    [() => target('exec', 'stdout=1'), 400, 'you must specify at least one command for the container'],
    [
      () => target('exec', 'command=x&stdout=1', { phase: 'Succeeded' }),
      400,
      'cannot exec into a container in a completed pod; current phase is Succeeded',
    ],
    [
      () => target('portforward', '', { phase: 'Pending' }),
      400,
      'unable to forward port because pod is not running. Current status=Pending',
    ],
    [() => target('portforward', 'ports=0'), 400, 'invalid port "0": must be between 1 and 65535, inclusive'],
    [() => podStreamTarget(podOf({}), undefined, 'log', new URLSearchParams()), 404, 'nodes "n1" not found'],
    [() => target('log', '', {}, nodeOf({})), 500, 'no preferred addresses found; known addresses: []'],
    [
      () => target('log', 'tailLines=-1'),
      422,
      'PodLogOptions "x" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0',
    ],
    [
      () => target('log', 'limitBytes=0&sinceSeconds=0'),
      422,
      'PodLogOptions "x" is invalid: [limitBytes: Invalid value: 0: must be greater than 0, sinceSeconds: Invalid value: 0: must be greater than 0]',
    ],
    [
      () => target('log', 'sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z'),
      422,
      'PodLogOptions "x" is invalid: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified',
    ],
    [() => target('log', 'tailLines=many'), 400, 'strconv.ParseInt: parsing "many": invalid syntax'],
    [() => target('log', 'sinceTime=noon'), 400, 'parsing time "noon" as "2006-01-02T15:04:05Z07:00": cannot parse'],
  ];
  for (const [run, code, message] of cases) {
    assert.throws(
      run,
      (error) => error instanceof StatusError && error.code === code && error.message === message,
      message,
    );
  }
});
