# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Messages, steps, content keys, the lock.
# shellcheck shell=bash

LAB_CACHE=${LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/certops-lab}
# shellcheck disable=SC2034  # the other parts use it: links to the newest build of each program
BIN=$LAB_CACHE/bin

say() { printf 'lab: %s\n' "$*"; }

# die WHAT WHY REMEDY
die() {
	printf 'lab: error: %s\n' "$1" >&2
	[ -z "${2-}" ] || printf '  why:    %s\n' "$2" >&2
	[ -z "${3-}" ] || printf '  remedy: %s\n' "$3" >&2
	exit 1
}

# step TITLE COMMAND...: run it with its output in a log; say how long it took, or why it failed.
# To be called as a plain command only: in a condition ("if step", "step &&") bash would ignore set -e inside.
step() {
	local title=$1 log start=$SECONDS status
	shift
	mkdir -p "$LAB_CACHE/log"
	log=$LAB_CACHE/log/${title//[^A-Za-z0-9]/-}.log
	say "$title ..."
	set +e
	(
		set -e
		"$@"
	) >"$log" 2>&1 9>&-
	status=$?
	set -e
	if [ $status -ne 0 ]; then
		tail -n 15 "$log" | sed 's/^/  | /' >&2
		die "$title: failed after $((SECONDS - start)) s" "the lines above are the end of $log" "$(remedy_for "$log")"
	fi
	say "$title: $((SECONDS - start)) s"
}

skip() { say "$1: up to date"; }

# What to do about a failed step, from its log.
remedy_for() {
	if grep -qE 'No space left on device|no space left' "$1"; then
		echo 'the disk is full: a build from nothing needs about 15 GB'
	elif grep -q 'too many open files' "$1"; then
		echo 'too many inotify instances for a user: sysctl -w fs.inotify.max_user_instances=1024 (as root), then run it again'
	elif grep -qE 'setting oom score|error setting rlimit|unable to apply caps|operation not permitted' "$1"; then
		echo 'the Docker daemon cannot start privileged containers here; stop it, then "lab/lab docker-up" starts one with a runtime that can'
	elif grep -qE 'dial tcp: lookup|Temporary failure resolving|Could not resolve|no such host' "$1"; then
		echo 'a download failed: check network and proxy settings, then run it again; what is done is kept'
	else
		echo 'run it again; what is done is kept'
	fi
}

# need PROGRAM WHAT-FOR REMEDY
need() { command -v "$1" >/dev/null || die "$1 is missing" "$2" "$3"; }

is_root() { [ "$(id -u)" = 0 ]; }

# key PATH...: a key over the contents and modes of files below lab/ and over $KEY_EXTRA
key() {
	{
		(cd "$LAB" && find "$@" -type f -perm -u+x -print | LC_ALL=C sort)
		(cd "$LAB" && find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
		printf '%s' "${KEY_EXTRA-}"
	} | sha256sum | cut -c1-16
}

# locked COMMAND...: one lab command at a time changes things
locked() {
	mkdir -p "$LAB_CACHE"
	exec 9>"$LAB_CACHE/lock"
	if ! flock -n 9; then
		say 'waiting for another lab command to end'
		flock 9
	fi
	"$@"
}
