#!/usr/bin/env bash
# All the set-up that podwire needs on a Debian machine, and nothing when it is done already:
# Debian packages (their services are not started), npm packages with Node 24, the CNI shim and the starter images.
#   scripts/setup.sh [test]      "test" adds what only the tests use
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "podwire set-up: $*" >&2; }

if [ "$(id -u)" != 0 ]; then
  echo "podwire: set-up and clusters need root (network namespaces, containers); run it again with sudo" >&2
  exit 3
fi

# package:what it is known by
packages=(
  containerd:/usr/bin/containerd crun:/usr/bin/crun nftables:/usr/sbin/nft
  iproute2:/sbin/ip busybox-static:/bin/busybox nginx-light:/usr/sbin/nginx curl:/usr/bin/curl
  bind9-dnsutils:/usr/bin/nslookup
  gcc:/usr/bin/gcc libc6-dev:/usr/include/stdio.h util-linux:/usr/bin/unshare
  ca-certificates:/usr/share/ca-certificates
)
command -v kubectl >/dev/null || packages+=(kubernetes-client:/usr/bin/kubectl)
if [ "${1:-}" = test ]; then
  packages+=(skopeo:/usr/bin/skopeo iptables:/usr/sbin/iptables-legacy-restore)
  packages+=(clang:/usr/bin/clang libbpf-dev:/usr/include/bpf/bpf_helpers.h)
fi

missing=()
for entry in "${packages[@]}"; do
  path=${entry#*:}
  [ -e "$path" ] || missing+=("${entry%%:*}")
done

if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "podwire: this machine lacks ${missing[*]} and has no apt-get; install them and start again" >&2
    exit 3
  fi
  say "installing Debian packages: ${missing[*]} (their services are not started)"
  # A policy-rc.d that says 101 keeps maintainer scripts from starting services; one that is there is left alone.
  policy=/usr/sbin/policy-rc.d
  made_policy=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    made_policy=yes
  fi
  trap '[ -z "$made_policy" ] || rm -f "$policy"' EXIT
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  if ! { apt-get install -y --no-install-recommends "${missing[@]}" || { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; }; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    echo "podwire: apt-get could not install ${missing[*]}; the lines above say why" >&2
    rm -f "$log"
    exit 3
  fi
  rm -f "$log"
fi

# npm packages, when the lock file is newer than what is installed; --ignore-scripts: nothing is built or fetched beside npm.
if [ ! -x node_modules/.bin/node ] || [ package-lock.json -nt node_modules/.podwire-installed ]; then
  say "installing npm packages (Node 24 among them)"
  log=$(mktemp)
  if ! npm ci --ignore-scripts --no-audit --no-fund >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    echo "podwire: npm ci failed; the lines above say why" >&2
    exit 3
  fi
  rm -f "$log"
  touch node_modules/.podwire-installed
fi

# One bundle instead of some hundred modules: clusters start faster and take less memory.
if [ ! -f dist/podwire.mjs ] || [ -n "$(find src scripts/build.mjs -newer dist/podwire.mjs -print -quit)" ]; then
  say "bundling podwire"
  node_modules/.bin/node scripts/build.mjs
fi

bin/podwire setup
