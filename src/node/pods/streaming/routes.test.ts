import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRoute } from './routes.ts';

test('the kubelet’s URLs', () => {
  const container = { namespace: 'ns', pod: 'web', container: 'c' };
  const streams = { stdin: true, stdout: true, stderr: true, tty: false };
  const cases: [string, object][] = [
    ['/healthz', { action: 'healthz' }],
    ['/pods/', { action: 'pods' }],
    ['/metrics', { action: 'metrics' }],
    [
      '/exec/ns/web/c?command=sh&command=-c&command=a%20b&input=1&output=1&error=1',
      { action: 'exec', options: { ...container, ...streams, command: ['sh', '-c', 'a b'] } },
    ],
    [
      '/exec/ns/web/uid-1/c?command=sh&output=1&error=1&tty=1',
      {
        action: 'exec',
        options: { ...container, uid: 'uid-1', command: ['sh'], stdin: false, stdout: true, stderr: false, tty: true },
      },
    ],
    ['/attach/ns/web/c?input=1&output=1&error=1', { action: 'attach', options: { ...container, ...streams } }],
    ['/portForward/ns/web', { action: 'portForward', options: { namespace: 'ns', pod: 'web', ports: [] } }],
    [
      '/portForward/ns/web/u?port=80,443',
      { action: 'portForward', options: { namespace: 'ns', pod: 'web', uid: 'u', ports: [80, 443] } },
    ],
  ];
  for (const [url, expected] of cases) assert.deepEqual(parseRoute(url), expected, url);
  const logs = parseRoute('/containerLogs/ns/web/c?follow=true');
  assert.equal(logs.action, 'containerLogs');
  assert.deepEqual('container' in logs && logs.container, container);
});

test('what is no URL of the kubelet', () => {
  const cases: [string, RegExp][] = [
    ['/', /404/],
    ['/exec/ns/web', /404/],
    ['/containerLogs/ns//c', /404/],
    ['/healthz/x', /404/],
    ['/exec/ns/web/c?output=1', /you must specify a command/],
    ['/exec/ns/web/c?command=x', /at least 1 of stdin, stdout, stderr/],
    ['/portForward/ns/web?port=0', /port/],
    ['/exec/ns/%E0%A4%A/c', /escape/],
  ];
  for (const [url, message] of cases) assert.throws(() => parseRoute(url), message, url);
});
