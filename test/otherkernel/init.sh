#!/bin/sh
# PID 1 in the other kernel: what /etc would set up elsewhere, then the tests, then the end. The kernel's messages and this
# script's go to the first serial port; the results go to the second.
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin HOME=/root NODE_NO_WARNINGS=1 FORCE_COLOR=0 NO_COLOR=1 PODWIRE_SILENCE_MS=1000
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t tmpfs tmp /var/tmp
mkdir -p /dev/shm /dev/net
[ -c /dev/net/tun ] || mknod /dev/net/tun c 10 200
ip link set lo up
stty -F /dev/ttyS1 raw 2>/dev/null
# One process for what most tests need: each module that is found on demand costs one of its own.
modprobe -a veth dummy bridge ip_vs ip_vs_rr nf_tables nft_compat nft_chain_nat nft_ct nft_masq nft_nat nft_numgen nft_hash \
  nft_reject_inet nft_fib_inet nft_objref nft_log nf_conntrack_netlink vxlan
cd /repo || exit 1
echo "the tests begin after $(cut -d' ' -f1 /proc/uptime) s"
node test/otherkernel/inside.mjs $(cat test/otherkernel/files) </dev/null
echo "the tests ended with $?"
sync
exec poweroff -f
