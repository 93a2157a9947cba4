import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { renderConflist, writeConflist } from './conflist.ts';

test('the conflist, whole', () => {
  assert.deepEqual(JSON.parse(renderConflist({ socketPath: '/run/podwire-cni.sock', mtu: 1400 })), {
    cniVersion: '1.0.0',
    cniVersions: ['0.4.0', '1.0.0', '1.1.0'],
    name: 'podwire',
    plugins: [{ type: 'podwire', socket: '/run/podwire-cni.sock', mtu: 1400 }],
  });
});

test('it is written in one step, over an older one', () => {
  const folder = mkdtempSync(join(tmpdir(), 'podwire-conflist-'));
  try {
    const target = join(folder, 'net.d');
    writeConflist(target, { socketPath: '/a' });
    const path = writeConflist(target, { socketPath: '/b' });
    assert.deepEqual(readdirSync(target), ['05-podwire.conflist']);
    assert.equal(JSON.parse(readFileSync(path, 'utf8')).plugins[0].socket, '/b');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
