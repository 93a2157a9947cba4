/**
 * Bundles podwire: dist/podwire.mjs (the command line, every role) and dist/index.mjs (the library); with --types also the
 * library's declarations, for a release.
 */

import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { build } from 'esbuild';

const DIST = 'dist';
const built = `${DIST}.new`;
rmSync(built, { recursive: true, force: true });
await build({
  entryPoints: { podwire: 'src/cmd/main.ts', index: 'src/index.ts' },
  outdir: built,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  splitting: true,
  chunkNames: 'chunk-[hash]',
  format: 'esm',
  platform: 'node',
  target: 'node24',
  packages: 'external',
  define: { PODWIRE_BUNDLE: 'true' },
  // The text stays in memory for as long as the process runs. Names stay: they are what a stack trace tells.
  minifyWhitespace: true,
  lineLimit: 160,
  legalComments: 'none',
});
mkdirSync(`${built}/native`, { recursive: true });
copyFileSync('src/cluster/native/pause.c', `${built}/native/pause.c`);
copyFileSync('src/node/cni/shim/podwire-cni.c', `${built}/native/podwire-cni.c`);
copyFileSync('src/node/services/ebpf/programs/services.bpf.c', `${built}/native/services.bpf.c`);
for (const name of ['cri', 'containerd-events'])
  copyFileSync(`src/node/pods/cri/${name}.proto`, `${built}/${name}.proto`);
if (process.argv.includes('--types')) {
  const flags = [
    '--noEmit',
    'false',
    '--declaration',
    '--emitDeclarationOnly',
    '--rootDir',
    'src',
    '--outDir',
    `${built}/types`,
  ];
  execFileSync('node_modules/.bin/tsc', ['-p', 'scripts/tsconfig.types.json', ...flags], { stdio: 'inherit' });
}
rmSync(DIST, { recursive: true, force: true });
renameSync(built, DIST);
