import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { UserError } from '../base/errors.ts';
import { prepareServicePrograms } from './service-programs.ts';

test('without clang one line says what to install, and nothing is made', async () => {
  const cache = join(tmpdir(), `podwire-no-clang-${process.pid}`);
  const env = { PATH: '/nonexistent', PODWIRE_CACHE: cache };
  await assert.rejects(
    prepareServicePrograms(() => {}, env, []),
    (error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, /^this machine lacks clang or libbpf-dev/);
      assert.match(error.hint ?? '', /apt-get install .*clang libbpf-dev .*--proxy nftables/);
      assert.equal(error.exitCode, 3);
      return true;
    },
  );
  assert.equal(existsSync(cache), false);
});
