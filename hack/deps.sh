#!/bin/sh
# Installs what testing needs and is not there, on Debian: a C compiler, for the race
# detector, for the busybox of the test images and for runc; crun, which is another
# runtime to test with, and what runc is built with; mkfs.ext4, for disks that lose
# their power, mkfs.xfs and mkfs.btrfs, for others that stores are on;
# mkfs.erofs, for layers that another program made; iptables, by which the reference network plugins write rules. Building berth needs only Go.
set -eu

missing=""
command -v gcc >/dev/null || missing="$missing gcc"
command -v make >/dev/null || missing="$missing make"
[ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
[ -x /sbin/mkfs.ext4 ] || missing="$missing e2fsprogs"
[ -x /sbin/mkfs.xfs ] || missing="$missing xfsprogs"
[ -x /sbin/mkfs.btrfs ] || missing="$missing btrfs-progs"
[ -x /usr/bin/mkfs.erofs ] || missing="$missing erofs-utils"
command -v crun >/dev/null || missing="$missing crun"
command -v pkg-config >/dev/null || missing="$missing pkg-config"
[ -e /usr/include/seccomp.h ] || missing="$missing libseccomp-dev"
command -v iptables >/dev/null || missing="$missing iptables"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "please install:$missing" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
