/** The server with a network of paper: what comes in by the socket, and in which order it is done. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { silentLogger } from '../../base/log.ts';
import { CniError, encodeRequest } from './protocol.ts';
import { type CniOperation, CniServer, type CniServerOptions } from './server.ts';

type Network = CniServerOptions['network'];

const idle: Network = {
  add: () => Promise.reject(new Error('unexpected')),
  remove: async () => {},
  check: async () => {},
  collect: async () => {},
  status: () => {},
};

const operations: CniOperation[] = [];

async function withServer(
  network: Partial<Network>,
  body: (path: string, stop: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'podwire-cni-server-'));
  const abort = new AbortController();
  const path = join(folder, 'cni.sock');
  writeFileSync(path, 'stale');
  const server = new CniServer({
    socketPath: path,
    network: { ...idle, ...network },
    log: silentLogger,
    receiveTimeoutMs: 200,
    observe: (operation) => operations.push(operation),
  });
  await server.start(abort.signal);
  const stop = async () => {
    abort.abort();
    await server.stopped;
  };
  try {
    await body(path, stop);
  } finally {
    await stop();
    rmSync(folder, { recursive: true });
  }
}

/** Sends bytes and returns all that comes back. */
function exchange(path: string, bytes: Buffer | string, end: 'end' | 'stay' = 'stay'): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('error', reject);
    socket.on('close', () => resolve(text));
    if (end === 'end') socket.end(bytes);
    else socket.write(bytes);
  });
}

const request = (command: string, extra: Record<string, string> = {}, config: object = {}) =>
  encodeRequest(
    { pid: '1', CNI_COMMAND: command, CNI_CONTAINERID: 'c1', CNI_IFNAME: 'eth0', ...extra },
    JSON.stringify({ cniVersion: '1.1.0', name: 'n', ...config }),
  );

test('listens on a socket that only root may use, in place of a stale one; nothing is left after the end', async () => {
  await withServer({}, async (path, stop) => {
    const { mode } = statSync(path);
    assert.equal(mode & 0o777, 0o600);
    assert.equal(await exchange(path, request('STATUS')), '0 0\n');
    await stop();
    assert.equal(statSync(path, { throwIfNoEntry: false }), undefined);
  });
});

test('garbage is answered with an error, and the server goes on', async () => {
  await withServer({}, async (path) => {
    const garbage: [Buffer | string, 'end' | 'stay', RegExp][] = [
      ['GET / HTTP/1.1\r\n\r\n', 'stay', /^1 \d+\n.*"code":6/],
      ['\0'.repeat(100), 'stay', /"code":6/],
      ['podwire-cni/1 999999999\n', 'stay', /too long/],
      ['podwire-cni/1 5\nabc', 'end', /cut off/],
      ['podwire-cni/1 5\nabc', 'stay', /in time/],
      ['podwire-cni/1 3\nabcdef', 'stay', /longer than it says/],
      ['podwire-cni/1 3\nabc', 'stay', /no end of its variables/],
      ['', 'end', /^$/],
    ];
    for (const [bytes, end, expected] of garbage) assert.match(await exchange(path, bytes, end), expected);
    assert.equal(await exchange(path, request('STATUS')), '0 0\n');
  });
});

test("errors keep their codes; foreign ones become the plugin's own", async () => {
  const errors = [
    new CniError(50, 'full', { details: 'really' }),
    Object.assign(new Error('x'), { name: 'NoPodCidrError' }),
    new Error('odd'),
  ];
  const status = () => {
    throw errors.shift();
  };
  await withServer({ status }, async (path) => {
    const answer = async () => JSON.parse((await exchange(path, request('STATUS'))).split('\n')[1]!);
    assert.deepEqual(await answer(), { cniVersion: '1.1.0', code: 50, msg: 'full', details: 'really' });
    assert.deepEqual(await answer(), { cniVersion: '1.1.0', code: 11, msg: 'x' });
    assert.deepEqual(await answer(), { cniVersion: '1.1.0', code: 100, msg: 'odd' });
    assert.deepEqual(
      operations.slice(-3).map(({ code }) => code),
      [50, 11, 100],
    );
  });
});

test('GC needs its list; a namespace that cannot be opened is an error of the environment', async () => {
  await withServer({}, async (path) => {
    assert.match(await exchange(path, request('GC')), /"code":7.*valid-attachments/);
    assert.equal(await exchange(path, request('GC', {}, { 'cni.dev/valid-attachments': [] })), '0 0\n');
    const add = { CNI_NETNS: '/run/netns/x', netns_fd: '0', pid: String(process.pid) };
    assert.match(await exchange(path, request('ADD', add)), /"code":4.*CNI_NETNS cannot be opened/);
    assert.match(await exchange(path, request('ADD', { ...add, pid: '999999999' })), /"code":4/);
  });
});

test('a request that runs at the end is answered', async () => {
  const gate = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const remove = () => {
    begun.resolve();
    return gate.promise;
  };
  await withServer({ remove }, async (path, stop) => {
    const answer = exchange(path, request('DEL'));
    await begun.promise;
    const stopped = stop();
    gate.resolve();
    assert.equal(await answer, '0 0\n');
    await stopped;
  });
});
