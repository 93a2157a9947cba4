#!/usr/bin/env bash
# npm start: all the set-up, then a three-node cluster and the tour. npm start -- --once takes it down afterwards.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec bin/podwire tour "$@"
