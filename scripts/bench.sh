#!/usr/bin/env bash
# npm run bench -- NAME [--json], npm run bench -- --list
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ "${1:-}" = --list ] || bash scripts/setup.sh
exec node_modules/.bin/node --disable-warning=ExperimentalWarning bench/main.ts "$@"
