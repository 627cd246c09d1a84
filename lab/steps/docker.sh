# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The Docker daemon: found, or installed and started by us.
# shellcheck shell=bash

DOCKER_STATE=/run/certops-lab/dockerd # "PID START-TIME" or "systemd": a daemon that docker_up started
DOCKER_SHIM=/usr/local/libexec/certops-lab/oci-caps
DOCKER_CONFIG=/etc/docker/daemon.json

docker_reachable() { docker version >/dev/null 2>&1; }

docker_up() {
	if docker_reachable; then
		say "docker: version $(docker version -f '{{.Server.Version}}') is running"
		return
	fi
	if ! is_root; then
		die 'no Docker daemon is reachable' \
			"$(docker_complaint); installing and starting one needs root, and this is user $(id -un)" \
			'run the command as root, or start Docker yourself and become a member of its group'
	fi
	docker_install
	docker_start
	say "docker: version $(docker version -f '{{.Server.Version}}') is running, started by the lab"
}

docker_complaint() {
	if command -v docker >/dev/null; then
		docker version 2>&1 | tail -n 1
	else
		echo 'there is no docker command'
	fi
}

docker_install() {
	install_missing dockerd:docker.io docker:docker.io containerd:containerd runc:runc iptables:iptables ip:iproute2 debootstrap:debootstrap
}

# install_missing PROGRAM:PACKAGE...: Debian's packages, those of which the program is missing
install_missing() {
	local missing=() pair
	for pair in "$@"; do
		command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if ! command -v apt-get >/dev/null || ! is_root; then
		die "missing: ${missing[*]}" 'the lab installs packages as root, by apt-get, on Debian only' \
			"install them by your system's own means; with a Docker daemon and LAB_NODE_IMAGE=kindest/node:v1.x nothing is installed"
	fi
	# Debian 13 has the client in a package of its own.
	if [[ ${missing[*]} = *docker.io* ]] && apt-cache show docker-cli >/dev/null 2>&1; then missing+=(docker-cli); fi
	step "packages ${missing[*]}" apt_install "${missing[@]}"
}

# One after the other: apt refuses a second one instead of waiting for the first.
apt_install() {
	(
		flock 8
		apt-get update -q
		DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
	) 8>"$LAB_CACHE/apt.lock"
}

docker_start() {
	mkdir -p "${DOCKER_STATE%/*}"
	if [ -d /run/systemd/system ] && may_use_resources; then
		step 'docker daemon' systemctl start docker
		echo systemd >$DOCKER_STATE
		return
	fi
	local options=()
	may_use_resources || docker_shim options
	say 'docker daemon ...'
	# A session of its own: the end of this terminal or of a CI step does not end it.
	setsid dockerd "${options[@]}" >"$LAB_CACHE/dockerd.log" 2>&1 </dev/null 9>&- &
	docker_wait $!
}

# This host may raise limits and lower OOM scores, which privileged containers ask for.
may_use_resources() { [ $((0x$(awk '/^CapBnd/ {print $2}' /proc/self/status) >> 24 & 1)) = 1 ]; }

# docker_shim ARRAY: options that make oci-caps the default runtime, for this run of the daemon only.
# They are flags, so that no file of the host's Docker is touched.
docker_shim() {
	if grep -qsE '"(runtimes|default-runtime)"' $DOCKER_CONFIG; then
		die "$DOCKER_CONFIG sets runtimes of its own" \
			'this host lacks CAP_SYS_RESOURCE, so the lab has to give the daemon a default runtime, and will not change your file' \
			"take \"runtimes\" and \"default-runtime\" out of $DOCKER_CONFIG, or start Docker yourself with a runtime that works here"
	fi
	build_tools node
	install -D -m 755 "$BIN/oci-caps" $DOCKER_SHIM
	local -n array=$1
	# shellcheck disable=SC2034  # filled for the caller
	array=(--add-runtime "certops-lab=$DOCKER_SHIM" --default-runtime certops-lab)
}

docker_wait() {
	local pid=$1 start=$SECONDS
	until docker_reachable; do
		if [ ! -e "/proc/$pid" ] || [ $((SECONDS - start)) -ge 60 ]; then
			tail -n 10 "$LAB_CACHE/dockerd.log" | sed 's/^/  | /' >&2
			die 'the Docker daemon did not start' "the lines above are the end of $LAB_CACHE/dockerd.log" 'see there; a container needs --privileged for it'
		fi
		sleep 0.2
	done
	echo "$pid $(start_time "$pid")" >$DOCKER_STATE
	say "docker daemon: $((SECONDS - start)) s"
}

# When the process began, in clock ticks since boot: a number that is used again belongs to another process.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

docker_down() {
	local pid began running
	if [ ! -s $DOCKER_STATE ]; then
		say 'docker: not started by the lab, left alone'
		return
	fi
	read -r pid began <$DOCKER_STATE
	if docker_reachable; then
		running=$(docker ps --format '{{.Names}}' | tr '\n' ' ')
		if [ -n "$running" ]; then
			say "docker: left running, because it runs containers: $running"
			return
		fi
	fi
	if [ "$pid" = systemd ]; then
		systemctl stop docker.socket docker
	elif [ "$(start_time "$pid")" = "$began" ]; then
		kill "$pid"
		while [ "$(start_time "$pid")" = "$began" ]; do sleep 0.2; done
	fi
	rm -f $DOCKER_STATE
	say 'docker: stopped'
}
