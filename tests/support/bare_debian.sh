#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Proves the README on a bare Debian: makes a root with nothing but apt, bash and git, clones this repository's HEAD into
# it, and runs a command there (default: ./dev demo --once 15s). Needs root and debootstrap, and a network for apt.
#
#   tests/support/bare_debian.sh [--keep] [--suite bookworm] [--dir DIR] [--user] [--data DIR] [--ca FILE] [COMMAND…]
#
# --user runs the command as an ordinary user with sudo instead of as root. --data copies a directory of shared test data
# beside the clone. --ca names the certificates that pip and npm must trust where the network inspects TLS. --keep leaves
# the root for a second run with the same --dir, which then starts from a fresh clone only.
set -euo pipefail

suite=bookworm dir='' keep=no as_user=no data='' ca=''
while [ $# -gt 0 ]; do
    case $1 in
        --keep) keep=yes ;;
        --suite) suite=$2; shift ;;
        --dir) dir=$2; shift ;;
        --user) as_user=yes ;;
        --data) data=$2; shift ;;
        --ca) ca=$2; shift ;;
        --) shift; break ;;
        -*) sed -n '3,13s/^# \{0,1\}//p' "$0"; exit 2 ;;
        *) break ;;
    esac
    shift
done
[ $# -gt 0 ] || set -- ./dev demo --once 15s
[ "$(id -u)" = 0 ] || { echo "bare_debian.sh: needs root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "bare_debian.sh: apt-get install debootstrap" >&2; exit 1; }

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[ -n "$dir" ] || dir=$(mktemp -d /var/tmp/bare-debian.XXXXXX)
case $suite in
    noble | jammy) mirror=${MIRROR:-http://archive.ubuntu.com/ubuntu} components=main,universe ;;
    *) mirror=${MIRROR:-http://deb.debian.org/debian} components=main ;;
esac

unmount() { for m in dev/shm dev/pts dev; do mountpoint -q "$dir/$m" && umount -l "$dir/$m"; done; true; }
finish() {
    unmount
    if [ $keep = no ]; then rm -rf --one-file-system "$dir"; else echo "bare_debian.sh: kept $dir" >&2; fi
}
trap finish EXIT

if [ ! -e "$dir/etc/debian_version" ]; then
    echo "==> debootstrap $suite into $dir" >&2
    debootstrap --variant=minbase --components=$components --include=git "$suite" "$dir" "$mirror" >"$dir.log" 2>&1 || {
        tail -n 20 "$dir.log" >&2
        exit 1
    }
    rm -f "$dir.log"
fi

# The network settings of the host: names, and an apt proxy where there is one. Nothing else of it goes in.
cp -L /etc/resolv.conf "$dir/etc/resolv.conf"
proxy=$(apt-config dump 2>/dev/null | grep -E '^Acquire::(http|https)::Proxy ' || true)
printf '%s\n' "$proxy" >"$dir/etc/apt/apt.conf.d/90host"
chroot "$dir" apt-get clean
rm -rf "$dir"/var/lib/apt/lists/*

mkdir -p "$dir/proc" "$dir/dev"
unmount
mount -t tmpfs -o mode=755 tmpfs "$dir/dev"
mkdir -p "$dir/dev/pts" "$dir/dev/shm"
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$dir/dev/${device%%:*}" c 1 "${device##*:}"
done
mknod -m 666 "$dir/dev/tty" c 5 0
ln -s /proc/self/fd "$dir/dev/fd"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$dir/dev/pts"
ln -s pts/ptmx "$dir/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$dir/dev/shm"

home=/srv/clone
rm -rf "$dir$home"
mkdir -p "$dir$home"
git -c safe.directory='*' clone -q --no-local "$repository" "$dir$home/gatewayd"
[ -z "$data" ] || { mkdir -p "$dir$home/shared" && cp -rL "$data/." "$dir$home/shared/"; }

run=(env -i HOME=/tmp PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM="${TERM:-dumb}" LANG=C.UTF-8 ${CI:+CI=$CI})
if [ -n "$ca" ]; then # a network whose TLS is inspected: what pip and npm must trust in it
    cp -L "$ca" "$dir/etc/network-ca.crt"
    run+=(PIP_CERT=/etc/network-ca.crt NPM_CONFIG_CAFILE=/etc/network-ca.crt)
fi
if [ $as_user = yes ]; then
    chroot "$dir" sh -c 'apt-get -qq update && apt-get -qq install -y --no-install-recommends sudo >/dev/null &&
        { id builder >/dev/null 2>&1 || useradd -m builder; } && echo "builder ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/builder'
    rm -rf "$dir"/var/lib/apt/lists/*
    chroot "$dir" chown -R builder "$home"
    run+=(HOME=/home/builder setpriv --reuid builder --regid builder --init-groups)
fi
echo "==> in the bare root: $*" >&2
rc=0
unshare --pid --fork --kill-child --mount-proc="$dir/proc" chroot "$dir" "${run[@]}" bash -c 'cd "$0" && exec "$@"' "$home/gatewayd" "$@" </dev/null || rc=$?
echo "bare_debian.sh: '$*' ended with $rc" >&2
exit $rc
