import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Server as GrpcServer, ServerCredentials } from '@grpc/grpc-js';
import type { corev1 } from '../../../kube/types.ts';
import { CriError } from '../cri/errors.ts';
import { runCheck } from './check.ts';
import { httpCheck } from './http-check.ts';
import { resolvePort } from './ports.ts';

const container: corev1.Container = { name: 'c', ports: [{ name: 'http', containerPort: 8080 }] };
const exec = { exitCode: 0, stdout: Buffer.from('out'), stderr: Buffer.from('err') };
const target = (execSync: () => Promise<typeof exec> = async () => exec) => ({
  runtime: { execSync },
  containerId: 'id',
  container,
  podIP: '127.0.0.1',
});

async function listening(t: TestContext, server: Server | ReturnType<typeof createTcpServer>): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

test('ports by number and by name', () => {
  assert.equal(resolvePort(80, container), 80);
  assert.equal(resolvePort('81', container), 81);
  assert.equal(resolvePort('http', container), 8080);
  for (const port of ['none', 0, 65536]) assert.throws(() => resolvePort(port, container), /invalid port/);
});

test('HTTP requests: defaults, IPv6, headers', () => {
  const { url, headers } = httpCheck(
    {
      port: 'http',
      path: 'x?y=1',
      httpHeaders: [
        { name: 'user-agent', value: 'me' },
        { name: 'Accept', value: '' },
      ],
    },
    container,
    'fd00::1',
  );
  assert.equal(url.href, 'http://[fd00::1]:8080/x?y=1');
  assert.deepEqual(headers, { Connection: 'close', 'user-agent': 'me' });
  assert.equal(httpCheck({ port: 443, scheme: 'HTTPS', host: 'h' }, container, '').url.href, 'https://h/');
});

test('HTTP probes: statuses, redirects, silence', async (t) => {
  const server = createServer((request, response) => {
    const path = request.url!;
    if (path === '/slow') return;
    if (path === '/here') response.writeHead(302, { location: '/200' });
    else if (path === '/away') response.writeHead(302, { location: 'http://192.0.2.1/' });
    else if (path === '/round') response.writeHead(302, { location: '/round' });
    else response.writeHead(Number(path.slice(1)));
    response.end('body');
  });
  t.after(() => server.closeAllConnections());
  const port = await listening(t, server);
  const table: readonly (readonly [string, string, RegExp])[] = [
    ['/200', 'success', /body/],
    ['/399', 'success', /body/],
    ['/404', 'failure', /statuscode: 404/],
    ['/500', 'failure', /statuscode: 500/],
    ['/here', 'success', /body/],
    ['/away', 'success', /body/],
    ['/round', 'failure', /stopped after 10 redirects/],
    ['/slow', 'failure', /deadline exceeded/],
  ];
  for (const [path, result, message] of table) {
    const outcome = await runCheck({ httpGet: { port, path } }, target());
    assert.equal(outcome.result, result, path);
    assert.match(outcome.message, message);
  }
});

test('TCP probes', async (t) => {
  const server = createTcpServer((socket) => socket.destroy());
  const port = await listening(t, server);
  assert.equal((await runCheck({ tcpSocket: { port } }, target())).result, 'success');
  await new Promise((resolve) => server.close(resolve));
  const refused = await runCheck({ tcpSocket: { port } }, target());
  assert.equal(refused.result, 'failure');
  assert.match(refused.message, /ECONNREFUSED/);
});

test('exec probes: exit codes, time-outs, a runtime that does not answer', async () => {
  const probe = { exec: { command: ['x', 'y'] } };
  assert.equal((await runCheck(probe, target())).result, 'success');
  const failed = await runCheck(
    probe,
    target(async () => ({ ...exec, exitCode: 1 })),
  );
  assert.deepEqual(failed, { result: 'failure', message: 'outerr' });
  const fails = (code: 'DEADLINE_EXCEEDED' | 'UNAVAILABLE') =>
    runCheck(
      probe,
      target(() => Promise.reject(new CriError('ExecSync', code, 'd'))),
    );
  assert.match((await fails('DEADLINE_EXCEEDED')).message, /"x y" timed out after 1s/);
  assert.equal((await fails('UNAVAILABLE')).result, 'unknown');
  assert.equal((await runCheck({}, target())).result, 'unknown');
});

test('gRPC probes', async (t) => {
  const server = new GrpcServer();
  const asked: string[] = [];
  const method = {
    path: '/grpc.health.v1.Health/Check',
    requestStream: false,
    responseStream: false,
    requestSerialize: (bytes: Buffer) => bytes,
    requestDeserialize: (bytes: Buffer) => bytes,
    responseSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes: Buffer) => bytes,
  } as const;
  server.addService(
    { check: method },
    {
      check: (call: { request: Buffer }, reply: (error: null, bytes: Buffer) => void) => {
        const service = call.request.subarray(2).toString();
        asked.push(service);
        reply(null, Buffer.from([8, service === 'bad' ? 2 : 1]));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  t.after(() => server.forceShutdown());
  assert.equal((await runCheck({ grpc: { port } }, target())).result, 'success');
  assert.equal((await runCheck({ grpc: { port, service: 'bad' } }, target())).result, 'failure');
  assert.deepEqual(asked, ['', 'bad']);
});
