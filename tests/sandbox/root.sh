#!/bin/sh
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside fresh namespaces (user, PID, mount, network, UTS, IPC): makes DIR/root the root file system and becomes the node's
# first process. Usage: root.sh DIR NODE_NAME ADDRESS [HOST_PATH...]; the paths are shown read-only at the same place.
set -eu
dir=$1 name=$2 address=$3
shift 3
root=$dir/root

read -r pid rest </proc/self/stat # the host's /proc is still mounted here, so this is the host's number of this process
echo "$pid" >"$dir/pid.new"

mount --rbind "$root" "$root"

# show PATH: the host's file or directory, read-only, at the same place
show() {
	if [ -d "$1" ]; then
		mkdir -p "$root$1"
	else
		mkdir -p "$root${1%/*}"
		[ -e "$root$1" ] || : >"$root$1"
	fi
	mount --rbind "$1" "$root$1"
	mount -o remount,bind,ro "$root$1"
}

for path in /bin /sbin /lib /lib32 /lib64 /libx32; do
	if [ -L "$path" ]; then
		[ -L "$root$path" ] || ln -s "$(readlink "$path")" "$root$path"
	elif [ -d "$path" ]; then
		show "$path"
	fi
done
for path in /usr /etc/ssl /etc/ca-certificates /etc/alternatives /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d; do
	[ ! -e "$path" ] || show "$path"
done
for path; do
	show "$path"
done

mkdir -p "$root/dev" "$root/proc" "$root/run" "$root/tmp" "$root/.old"
chmod 1777 "$root/tmp" "$root/var/tmp"
mount -t tmpfs -o mode=755 dev "$root/dev"
for device in null zero full random urandom tty; do
	: >"$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts" && ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t proc proc "$root/proc"

cd "$root"
pivot_root . .old
umount -l /.old
exec /opt/sandbox/bin/sandbox-init "$name" "$address"
