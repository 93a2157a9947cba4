/** The plugin that a runtime executes: what it does without an agent, and as loopback. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { silentLogger } from '../../src/base/log.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { buildShim, installShim } from '../../src/node/cni/build.ts';
import { CniServer } from '../../src/node/cni/server.ts';
import { executeShim } from './cni-lab.ts';

const folder = mkdtempSync(join(tmpdir(), 'podwire-shim-'));
const plugin = join(folder, 'bin/podwire');
const loopback = join(folder, 'bin/loopback');
before(async () => {
  await buildShim(join(folder, 'shim'));
  installShim(join(folder, 'shim'), join(folder, 'bin'));
  installShim(join(folder, 'shim'), join(folder, 'bin'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

const nowhere = join(folder, 'nobody.sock');
const config = { cniVersion: '1.0.0', name: 'podwire', type: 'podwire', socket: nowhere, connectTimeoutMs: 50 };
const environment = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c', CNI_NETNS: '/proc/self/ns/net', CNI_IFNAME: 'eth0' };

test('both names are one file', () => assert.equal(statSync(plugin).ino, statSync(loopback).ino));

test('VERSION needs no agent, and echoes the version that was asked with', async () => {
  for (const path of [plugin, loopback]) {
    for (const [input, cniVersion] of [
      ['{"cniVersion":"0.4.0"}', '0.4.0'],
      ['', '1.1.0'],
      ['garbage', '1.1.0'],
    ] as const) {
      const { exitCode, json } = await executeShim(path, { config: input, environment: { CNI_COMMAND: 'VERSION' } });
      assert.equal(exitCode, 0);
      assert.deepEqual(json, { cniVersion, supportedVersions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] });
    }
  }
});

const failures: [string, object | string, Record<string, string>, number, RegExp][] = [
  ['no agent', config, environment, 11, /the podwire agent is not running/],
  ['no command', config, {}, 4, /CNI_COMMAND is missing/],
  ['no configuration', '', environment, 6, /no JSON object/],
  ['half a configuration', '{"socket":"/x"', environment, 6, /no JSON object/],
  ['a configuration and more', '{"socket":"/x"} {', environment, 6, /no JSON object/],
  ['deep nesting', `{"a":${'['.repeat(200000)}`, environment, 6, /no JSON object/],
  ['an unclosed text', '{"socket":"/x\\', environment, 6, /no JSON object/],
  ['no socket', { cniVersion: '1.0.0', name: 'n' }, environment, 7, /names no agent/],
  ['a socket that is no text', { ...config, socket: 5 }, environment, 7, /names no agent/],
  [
    'a socket only inside something',
    { ...config, socket: undefined, x: { socket: nowhere } },
    environment,
    7,
    /names no/,
  ],
  ['a long socket path', { ...config, socket: `/${'x'.repeat(200)}` }, environment, 7, /too long/],
  ['a version that is no text', { ...config, cniVersion: 1 }, environment, 7, /cniVersion is no version/],
  ['a huge configuration', { ...config, x: 'x'.repeat(5 << 20) }, environment, 7, /too large/],
];
for (const [what, configuration, variables, code, message] of failures) {
  test(`an error in the specification's form: ${what}`, async () => {
    const { exitCode, json } = await executeShim(plugin, { config: configuration, environment: variables });
    assert.equal(exitCode, 1);
    assert.equal(json.code, code);
    assert.match(`${json.msg} ${json.details}`, message);
  });
}

test('an agent that comes a moment later is waited for', async () => {
  const abort = new AbortController();
  const socketPath = join(folder, 'late.sock');
  const unexpected = () => Promise.reject(new Error('unexpected'));
  const network = { add: unexpected, check: unexpected, collect: unexpected, remove: async () => {}, status: () => {} };
  const answer = executeShim(plugin, {
    config: { ...config, socket: socketPath, connectTimeoutMs: 5000 },
    environment: { ...environment, CNI_COMMAND: 'DEL' },
  });
  const server = new CniServer({ socketPath, network, log: silentLogger });
  setTimeout(() => void server.start(abort.signal), 150);
  try {
    assert.deepEqual(await answer, { exitCode: 0, json: {} });
  } finally {
    abort.abort();
    await server.stopped;
  }
});

test('loopback brings lo up, checks it, and tells what it has', async () => {
  const path = join(folder, 'netns');
  using ns = NetworkNamespace.create(path);
  try {
    using rtnl = Rtnetlink.open(ns);
    rtnl.setLink('lo', { up: false });
    const run = (command: string, cniVersion: string, more: object = {}) =>
      executeShim(loopback, {
        config: { cniVersion, name: 'lo', type: 'loopback', ...more },
        environment: { ...environment, CNI_COMMAND: command, CNI_NETNS: path, CNI_IFNAME: 'lo' },
      });
    assert.match((await run('CHECK', '1.0.0')).json.msg ?? '', /lo is down/);
    const { exitCode, json } = await run('ADD', '1.0.0');
    assert.equal(exitCode, 0);
    assert.deepEqual(json, {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'lo', mac: '00:00:00:00:00:00', sandbox: path }],
      ips: [
        { interface: 0, address: '127.0.0.1/8' },
        { interface: 0, address: '::1/128' },
      ],
    });
    assert.equal(rtnl.link('lo')?.up, true);
    assert.deepEqual((await run('CHECK', '1.0.0')).exitCode, 0);
    const old = await run('ADD', '0.3.1');
    assert.deepEqual(
      old.json.ips?.map(({ version }) => version),
      ['4', '6'],
    );
    const prevResult = { cniVersion: '1.0.0', interfaces: [{ name: 'x', mac: '' }] };
    assert.deepEqual((await run('ADD', '1.0.0', { prevResult })).json, prevResult);
    assert.deepEqual(await run('DEL', '1.0.0'), { exitCode: 0, json: {} });
    assert.equal(rtnl.link('lo')?.up, true);
  } finally {
    NetworkNamespace.delete(path);
  }
});

test('loopback in a namespace that is gone: ADD fails, DEL does not', async () => {
  const gone = { ...environment, CNI_NETNS: join(folder, 'gone') };
  const add = await executeShim(loopback, { config, environment: gone });
  assert.equal(add.json.code, 4);
  const del = await executeShim(loopback, { config, environment: { ...gone, CNI_COMMAND: 'DEL' } });
  assert.equal(del.exitCode, 0);
});
