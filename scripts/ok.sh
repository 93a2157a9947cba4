#!/usr/bin/env bash
# npm run ok: the quick gate: types, lint and format, import rules, unit tests. Needs no root and no cluster.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/node_modules/.bin:$PATH"
[ -x node_modules/.bin/tsc ] || npm ci --ignore-scripts --no-audit --no-fund
tsc --noEmit -p tsconfig.json
biome check --error-on-warnings .
if [ "${1:-}" != --no-unit ]; then
  exec node --test --test-reporter=dot 'src/**/*.test.ts' 'test/*.test.ts'
fi
