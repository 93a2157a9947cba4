#!/usr/bin/env bash
# npm test: all the set-up, the quick gate, then everything that needs root: real kernel, containerd, kubectl.
#   npm test -- 'test/e2e/*.test.ts'     only these files
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh test
export PATH="$PWD/node_modules/.bin:$PATH"
if [ $# -gt 0 ]; then
  exec node --test --test-concurrency=1 "$@"
fi
bash scripts/ok.sh --no-unit
exec node --test --test-concurrency=2 --test-timeout=420000 \
  'src/**/*.test.ts' 'test/*.test.ts' 'test/contract/*.test.ts' 'test/fuzz/*.test.ts' 'test/netns/*.test.ts' 'test/e2e/*.test.ts' 'test/otherkernel/*.test.ts'
