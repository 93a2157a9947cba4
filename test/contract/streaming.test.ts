/** API server -> node -> runtime, with a fake runtime: every protocol a client may speak, and every way it may fail. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { createWebSocketStream, WebSocket } from 'ws';
import { NodeProxy } from '../../src/apiserver/streaming/node-proxy.ts';
import { silentLogger } from '../../src/base/log.ts';
import { statusError } from '../../src/kube/status.ts';
import type { PodStreams } from '../../src/node/pods/streaming/pod-streams.ts';
import { SpdySession } from '../../src/node/pods/streaming/spdy-session.ts';
import { type Behaviour, type FakeRuntime, startFakeRuntime } from './streaming-fake-runtime.ts';
import { runningPod, type StreamingServers, startStreamingServers } from './streaming-servers.ts';

const SUCCESS = JSON.stringify({ metadata: {}, status: 'Success' });
const EXIT_3 = JSON.stringify({ metadata: {}, status: 'Failure', reason: 'NonZeroExitCode', message: 'exit code 3' });

/** Answers of the pod manager that a test can set. */
class FakePods implements PodStreams {
  url = '';
  log = { path: '', running: false };
  failure: Error | undefined;
  readonly asked: object[] = [];

  #answer<T>(options: object, value: T): T {
    this.asked.push(options);
    if (this.failure) throw this.failure;
    return value;
  }
  execUrl = async (options: object) => this.#answer(options, this.url);
  attachUrl = async (options: object) => this.#answer(options, this.url);
  portForwardUrl = async (options: object) => this.#answer(options, this.url);
  logFile = async (options: object) => this.#answer(options, this.log);
}

interface Stage {
  readonly pods: FakePods;
  readonly runtime: FakeRuntime;
  readonly servers: StreamingServers;
}

async function stage(t: TestContext): Promise<Stage> {
  const pods = new FakePods();
  const runtime = await startFakeRuntime();
  const servers = await startStreamingServers(pods, [runningPod('web')]);
  t.after(async () => {
    await servers[Symbol.asyncDispose]();
    await runtime[Symbol.asyncDispose]();
  });
  return { pods, runtime, servers };
}

const podUrl = (servers: StreamingServers, path: string) => `${servers.url}/api/v1/namespaces/default/pods/web/${path}`;

/** A WebSocket client that collects what comes, by channel. */
class ChannelClient {
  readonly socket: WebSocket;
  readonly channels = new Map<number, Buffer[]>();
  readonly closed: Promise<number>;

  constructor(servers: StreamingServers, path: string, protocols: string[]) {
    this.socket = new WebSocket(podUrl(servers, path).replace('http', 'ws'), protocols, { perMessageDeflate: false });
    this.socket.on('message', (data: Buffer, isBinary: boolean) => {
      const channel = isBinary ? data[0]! : data[0]! - 0x30;
      const bytes = isBinary ? data.subarray(1) : Buffer.from(data.subarray(1).toString(), 'base64');
      this.channels.set(channel, [...(this.channels.get(channel) ?? []), bytes]);
    });
    this.closed = once(this.socket, 'close').then(([code]) => code as number);
  }

  static async open(servers: StreamingServers, path: string, ...protocols: string[]): Promise<ChannelClient> {
    const client = new ChannelClient(servers, path, protocols);
    await once(client.socket, 'open');
    return client;
  }

  send(channel: number, bytes: Buffer | string): void {
    this.socket.send(Buffer.concat([Buffer.of(channel), Buffer.from(bytes)]));
  }

  bytes(channel: number): Buffer {
    return Buffer.concat(this.channels.get(channel) ?? []);
  }
}

const EXEC = 'exec?command=cmd&stdin=1&stdout=1&stderr=1';

const echo: Behaviour = (streams) => {
  const [stdin, stdout] = [streams.get('stdin')!, streams.get('stdout')!];
  stdout.once('finish', () => {
    streams.get('stderr')!.end('done');
    streams.get('error')!.end(SUCCESS);
  });
  stdin.pipe(stdout);
};

const fail: Behaviour = (streams) => {
  streams.get('stdout')!.end('out');
  streams.get('stderr')!.end('err');
  streams.get('error')!.end(EXIT_3);
};

function pattern(bytes: number): Buffer {
  const result = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++) result[i] = (i * 7 + (i >> 9)) & 0xff;
  return result;
}

test('v5: 10 MB each way arrive whole; closing stdin ends the command; the status says how', async (t) => {
  const { pods, runtime, servers } = await stage(t);
  pods.url = runtime.url(4, echo);
  const client = await ChannelClient.open(servers, EXEC, 'v5.channel.k8s.io', 'v4.channel.k8s.io');
  assert.equal(client.socket.protocol, 'v5.channel.k8s.io');
  const sent = pattern(10 << 20);
  for (let at = 0; at < sent.length; at += 32 << 10) client.send(0, sent.subarray(at, at + (32 << 10)));
  client.send(255, Buffer.of(0));
  assert.equal(await client.closed, 1000);
  assert.ok(client.bytes(1).equals(sent));
  assert.equal(client.bytes(2).toString(), 'done');
  assert.equal(client.bytes(3).toString(), SUCCESS);
  assert.deepEqual(pods.asked, [
    {
      namespace: 'default',
      pod: 'web',
      container: 'main',
      command: ['cmd'],
      stdin: true,
      stdout: true,
      stderr: true,
      tty: false,
    },
  ]);
});

test('a client that stops reading gets everything later, though the command ended long before', async (t) => {
  const { pods, runtime, servers } = await stage(t);
  const sent = pattern(6 << 20);
  pods.url = runtime.url(3, (streams) => {
    streams.get('stdout')!.end(sent);
    streams.get('stderr')!.end();
    streams.get('stdout')!.once('finish', () => streams.get('error')!.end(SUCCESS));
  });
  const client = await ChannelClient.open(servers, 'exec?command=cmd&stdout=1&stderr=1', 'v5.channel.k8s.io');
  client.socket.pause();
  setTimeout(() => client.socket.resume(), 500);
  assert.equal(await client.closed, 1000);
  assert.ok(client.bytes(1).equals(sent));
  assert.equal(client.bytes(3).toString(), SUCCESS);
});

test('exit codes reach clients of every protocol', async (t) => {
  const { pods, runtime, servers } = await stage(t);
  pods.url = runtime.url(4, fail);
  for (const protocol of [
    'v5.channel.k8s.io',
    'v4.channel.k8s.io',
    'v4.base64.channel.k8s.io',
    'base64.channel.k8s.io',
    '',
  ]) {
    const client = await ChannelClient.open(servers, EXEC, ...(protocol ? [protocol] : []));
    assert.equal(client.socket.protocol, protocol);
    assert.equal(await client.closed, 1000);
    assert.equal(client.bytes(1).toString(), 'out', protocol);
    assert.equal(client.bytes(2).toString(), 'err', protocol);
    assert.equal(client.bytes(3).toString(), /^v[45]/.test(protocol) ? EXIT_3 : 'exit code 3', protocol);
  }
});

test('a terminal: one output, and sizes', async (t) => {
  const { pods, runtime, servers } = await stage(t);
  pods.url = runtime.url(4, (streams) => {
    streams.get('resize')!.once('data', (size: Buffer) => {
      streams.get('stdout')!.end(size);
      streams.get('error')!.end(SUCCESS);
    });
  });
  const client = await ChannelClient.open(servers, 'attach?stdin=1&stdout=1&stderr=1&tty=1', 'v5.channel.k8s.io');
  client.send(4, '{"Width":80,"Height":24}');
  assert.equal(await client.closed, 1000);
  assert.equal(client.bytes(1).toString(), '{"Width":80,"Height":24}');
});

test('a runtime that vanishes is a failure, never a success', async (t) => {
  const { pods, runtime, servers } = await stage(t);
  pods.url = runtime.url(4, (streams, socket) => {
    streams.get('stdout')!.write('some', () => setImmediate(() => socket.destroy()));
  });
  const client = await ChannelClient.open(servers, EXEC, 'v5.channel.k8s.io');
  assert.equal(await client.closed, 1000);
  assert.equal(JSON.parse(client.bytes(3).toString()).status, 'Failure');
});

test('a client that vanishes ends the runtime’s connection', async (t) => {
  const { pods, runtime, servers } = await stage(t);
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  pods.url = runtime.url(4, (streams, socket) => {
    socket.once('close', resolve);
    streams.get('stdout')!.write('ready');
  });
  const client = await ChannelClient.open(servers, EXEC, 'v5.channel.k8s.io');
  while (client.bytes(1).length === 0) await once(client.socket, 'message');
  client.socket.terminate();
  await ended;
});

/** Opens a WebSocket that the server refuses; rejects with the reason. */
async function refusedOpen(servers: StreamingServers, path: string, protocol: string): Promise<void> {
  await once(new WebSocket(podUrl(servers, path).replace('http', 'ws'), protocol), 'open');
}

/** The answer to an upgrade request that is refused. */
async function refusalOf(servers: StreamingServers, path: string, upgrade = 'SPDY/3.1') {
  const request = http.request(podUrl(servers, path), {
    method: 'POST',
    headers: { Connection: 'Upgrade', Upgrade: upgrade },
  });
  request.end();
  const [answer] = (await once(request, 'response')) as [http.IncomingMessage];
  return { code: answer.statusCode, body: (await text(answer)).trim() };
}

test('refusals', async (t) => {
  const { pods, runtime, servers } = await stage(t);
  pods.failure = statusError('NotFound', 'container not found ("main")');
  assert.deepEqual(await refusalOf(servers, EXEC), { code: 404, body: 'container not found ("main")' });
  await assert.rejects(refusedOpen(servers, EXEC, 'v5.channel.k8s.io'), /404/);
  pods.failure = new Error('attach: no such task');
  const readable = await refusalOf(servers, EXEC);
  assert.equal(JSON.parse(readable.body).message, 'Internal error occurred: attach: no such task');
  pods.failure = undefined;
  pods.url = runtime.refusal(404, 'unknown token');
  assert.deepEqual(await refusalOf(servers, EXEC), { code: 404, body: 'unknown token' });
  pods.url = 'http://127.0.0.1:1/exec/x';
  assert.match((await refusalOf(servers, EXEC)).body, /container runtime streaming: connect ECONNREFUSED/);
  assert.match((await refusalOf(servers, EXEC, 'h2c')).body, /unknown protocol/);
  await assert.rejects(refusedOpen(servers, EXEC, 'v9.channel.k8s.io'), /400/);
  const plain = await fetch(podUrl(servers, EXEC));
  assert.equal(plain.status, 400);
  assert.equal(((await plain.json()) as { kind: string }).kind, 'Status');
});

test('SPDY clients speak with the runtime itself', async (t) => {
  const { pods, runtime, servers } = await stage(t);
  pods.url = runtime.url(4, echo);
  const headers = {
    Connection: 'Upgrade',
    Upgrade: 'SPDY/3.1',
    'X-Stream-Protocol-Version': ['v4.channel.k8s.io', 'x'],
  };
  const request = http.request(podUrl(servers, EXEC), { method: 'POST', headers });
  request.end();
  const [answer, socket] = (await once(request, 'upgrade')) as [http.IncomingMessage, Socket];
  assert.equal(answer.headers['x-stream-protocol-version'], 'v4.channel.k8s.io');
  const received = new Map<number, Buffer[]>();
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const session = new SpdySession(socket, {
    data: (id, bytes) => void received.set(id, [...(received.get(id) ?? []), bytes]),
    ended: (id) => id === error && resolve(),
    closed: () => {},
    drained: () => {},
  });
  const [error, stdin, stdout] = ['error', 'stdin', 'stdout', 'stderr'].map((streamType) =>
    session.open({ streamType }),
  );
  const sent = pattern(1 << 20);
  session.write(stdin!, sent);
  session.end(stdin!);
  await done;
  assert.ok(Buffer.concat(received.get(stdout!)!).equals(sent));
  session.destroy();
});

/** A WebSocket with the subprotocol that `ws` itself refuses to ask for, since its name is no token. */
async function openTunnel(servers: StreamingServers): Promise<WebSocket> {
  const headers = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    'Sec-WebSocket-Protocol': 'SPDY/3.1+portforward.k8s.io',
  };
  const request = http.get(podUrl(servers, 'portforward'), { headers });
  const [answer, socket, head] = (await once(request, 'upgrade')) as [http.IncomingMessage, Socket, Buffer];
  assert.equal(answer.headers['sec-websocket-protocol'], 'SPDY/3.1+portforward.k8s.io');
  type Internals = { _isServer: boolean; setSocket(socket: Socket, head: Buffer, options: object): void };
  const Unconnected = WebSocket as unknown as new (
    url: null,
    protocols: string[],
    options: object,
  ) => WebSocket & Internals;
  const client = new Unconnected(null, [], { autoPong: true, closeTimeout: 1000 });
  client._isServer = false;
  client.setSocket(socket, head, { maxPayload: 0, skipUTF8Validation: true, allowSynchronousEvents: true });
  return client;
}

const forward: Behaviour = (streams) => {
  const data = streams.get('data')!;
  data.pipe(data);
  data.once('end', () => streams.get('error')!.end());
};

test('port-forward: SPDY inside a WebSocket', async (t) => {
  const { pods, runtime, servers } = await stage(t);
  pods.url = runtime.url(2, forward);
  const socket = await openTunnel(servers);
  const received: Buffer[] = [];
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const session = new SpdySession(createWebSocketStream(socket), {
    data: (_id, bytes) => void received.push(bytes),
    ended: (id) => id === data && resolve(),
    closed: () => {},
    drained: () => {},
  });
  session.end(session.open({ streamType: 'error', port: '80', requestID: '0' }));
  const data = session.open({ streamType: 'data', port: '80', requestID: '0' });
  const sent = pattern(2 << 20);
  session.write(data, sent);
  session.end(data);
  await done;
  assert.ok(Buffer.concat(received).equals(sent));
  session.destroy();
});

test('port-forward: the old WebSocket protocol', async (t) => {
  const { pods, runtime, servers } = await stage(t);
  pods.url = runtime.url(2, forward);
  const client = await ChannelClient.open(servers, 'portforward?ports=8080', 'v4.channel.k8s.io');
  client.send(0, 'hello');
  while (client.bytes(0).length < 7) await once(client.socket, 'message');
  assert.deepEqual(client.bytes(0), Buffer.concat([Buffer.from([0x90, 0x1f]), Buffer.from('hello')]));
  assert.deepEqual(client.bytes(1), Buffer.from([0x90, 0x1f]));
  client.socket.close();
  await client.closed;
  await assert.rejects(refusedOpen(servers, 'portforward', 'v4.channel.k8s.io'), /400/);
});

test('logs', async (t) => {
  const { pods, servers } = await stage(t);
  const folder = await mkdtemp(join(tmpdir(), 'podwire-log-'));
  t.after(() => rm(folder, { recursive: true }));
  pods.log = { path: join(folder, '0.log'), running: false };
  const lines = Array.from({ length: 20_000 }, (_, i) => `line ${i} ${'x'.repeat(50)}`);
  await appendFile(pods.log.path, lines.map((line) => `2026-01-01T00:00:00Z stdout F ${line}\n`).join(''));
  assert.equal(await (await fetch(podUrl(servers, 'log'))).text(), lines.map((line) => `${line}\n`).join(''));
  assert.equal(await (await fetch(podUrl(servers, 'log?tailLines=1&follow=true'))).text(), `${lines.at(-1)}\n`);
  pods.failure = statusError('BadRequest', 'container "main" in pod "web" is waiting to start: ContainerCreating');
  const refused = await fetch(podUrl(servers, 'log'));
  assert.equal(refused.status, 400);
  const status = (await refused.json()) as { message: string; reason: string };
  assert.equal(status.message, pods.failure.message);
  assert.equal(status.reason, 'BadRequest');
  pods.failure = undefined;
  pods.log = { path: join(folder, 'none.log'), running: false };
  assert.equal((await fetch(podUrl(servers, 'log'))).status, 404);
});

test('a follower that goes away is forgotten', async (t) => {
  const { pods, servers } = await stage(t);
  pods.log = { path: join(tmpdir(), 'podwire-no-such.log'), running: true };
  const stop = new AbortController();
  const answer = await fetch(podUrl(servers, 'log?follow=true'), { signal: stop.signal });
  assert.equal(answer.status, 200);
  stop.abort();
  // The reader asks twice a second while it is there.
  let before: number;
  do {
    before = pods.asked.length;
    await new Promise((resolve) => setTimeout(resolve, 1200));
  } while (pods.asked.length !== before);
});

test('who may call the node', async (t) => {
  const { servers } = await stage(t);
  const get = async (path: string, identity: { cert?: string; key?: string }) => {
    const { ca } = servers.tls;
    const options = { host: '127.0.0.1', port: servers.kubeletPort, path, ca, ...identity, agent: false as const };
    const request = https.get(options);
    const [answer] = (await once(request, 'response')) as [http.IncomingMessage];
    return { code: answer.statusCode, body: await text(answer) };
  };
  const masters = { cert: servers.tls.cert, key: servers.tls.key };
  assert.deepEqual(await get('/healthz', masters), { code: 200, body: 'ok' });
  assert.deepEqual(await get('/metrics', masters), { code: 200, body: 'up 1\n' });
  assert.equal(JSON.parse((await get('/pods', masters)).body).items[0].metadata.name, 'web');
  assert.equal((await get('/nothing', masters)).code, 404);
  assert.equal((await get('/pods', {})).code, 401);
  assert.equal((await get('/pods', await servers.issue('system:node:other', ['system:nodes']))).code, 403);
});

test('the node must prove who it is, and be there', async (t) => {
  const { servers } = await stage(t);
  const proxy = new NodeProxy({ tls: servers.tls, log: silentLogger });
  let target = { host: 'localhost', port: servers.kubeletPort, path: '/healthz' };
  const front = http.createServer((req, res) => proxy.request(target, req, res)).listen(0, '127.0.0.1');
  t.after(() => front.close());
  await once(front, 'listening');
  const get = async () => {
    const answer = await fetch(`http://127.0.0.1:${(front.address() as { port: number }).port}/`);
    return { code: answer.status, body: await answer.text() };
  };
  const stranger = await get();
  assert.equal(stranger.code, 500);
  assert.match(stranger.body, /error dialing backend.*altnames/);
  target = { ...target, host: '127.0.0.1' };
  assert.deepEqual(await get(), { code: 200, body: 'ok' });
  target = { ...target, port: 1 };
  assert.match((await get()).body, /ECONNREFUSED/);
});
