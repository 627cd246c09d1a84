# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Clusters. $LAB_CACHE/clusters/NAME says what "up" made there; a cluster without it is somebody else's.
# shellcheck shell=bash

A_YEAR=8760h0m0s # kubeadm's own default for certificateValidityPeriod

cluster_up() {
	local kind=${1-} name='' validity=${LAB_VALIDITY-} settings
	case $kind in
	single) name=certops ;;
	ha) name=certops-ha ;;
	external-etcd) name=certops-etcd ;;
	*) die "up: \"$kind\" is no kind of cluster" '' 'lab/lab up single, lab/lab up ha, or lab/lab up external-etcd' ;;
	esac
	shift
	while [ $# -gt 0 ]; do
		case $1 in
		--name=* | --validity=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
		--name | --validity)
			[ $# -ge 2 ] || die "up: $1 needs a value"
			if [ "$1" = --name ]; then name=$2; else validity=$2; fi
			shift 2
			;;
		*) die "up: unknown option $1" '' 'see lab/lab --help' ;;
		esac
	done
	check_name "$name"
	check_validity "$validity"
	if [ "$kind" = external-etcd ]; then seconds_of "${validity:-$A_YEAR}" >/dev/null; fi

	docker_up
	build_single
	if [ "$kind" = ha ] && [ -z "${LAB_NODE_IMAGE-}" ]; then build_load_balancer; fi

	settings="$kind validity=${validity:-$A_YEAR}"
	if cluster_exists "$name"; then
		cluster_check "$name" "$settings" || cluster_make "$name" "$kind" "$validity" "$settings"
	else
		cluster_make "$name" "$kind" "$validity" "$settings"
	fi
	say "cluster $name is ready: export KUBECONFIG=$(kubeconfig_path "$name")"
}

check_name() {
	[[ $1 =~ ^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$ ]] ||
		die "\"$1\" is no name for a cluster" 'it becomes part of host names' 'use up to 32 lower-case letters, digits and dashes'
}

check_validity() {
	[[ -z $1 || $1 =~ ^([0-9]+(h|m|s))+$ ]] ||
		die "\"$1\" is no duration" 'the validity goes to kubeadm as it is, which reads it as Go does' 'write for example 4m0s, 240h0m0s or 8760h'
}

kubeconfig_path() { echo "$LAB_CACHE/$1.kubeconfig"; }
nodes_of() { docker ps -a --filter "label=io.x-k8s.kind.cluster=$1" --format '{{.Names}}' | sort; }
# Those of an external etcd are no nodes for kind.
machines_of() {
	nodes_of "$1"
	etcd_nodes_of "$1"
}
cluster_exists() { [ -n "$(machines_of "$1")" ]; }
# nothing, for a cluster that the lab did not make
settings_of() { cat "$LAB_CACHE/clusters/$1" 2>/dev/null || true; }
k() { "$BIN/kubectl" --kubeconfig "$(kubeconfig_path "$1")" "${@:2}"; }

# True: the cluster is the wanted one, running. False: it has to be made again.
cluster_check() {
	local name=$1 wanted=$2 found stopped
	found=$(settings_of "$name")
	case $found in
	"$wanted") ;;
	making*)
		say "cluster $name was left half made"
		cluster_remove "$name"
		return 1
		;;
	'') die "there is a cluster $name that the lab did not make" '' "take another name (--name), or remove it: lab/lab down $name" ;;
	*) die "there is a cluster $name with other settings: $found, wanted $wanted" '' "take another name (--name), or remove it: lab/lab down $name" ;;
	esac
	stopped=$(docker ps -a --filter "label=io.x-k8s.kind.cluster=$name" --filter status=exited --format '{{.Names}}')
	if [ -n "$stopped" ]; then
		# shellcheck disable=SC2086  # a list of names
		step "cluster $name: starting its nodes" start_nodes "$name" $stopped
	fi
	skip "cluster $name"
}

start_nodes() {
	docker start "${@:2}"
	for _ in $(seq 120); do
		! k "$1" get --raw /readyz || return 0
		sleep 0.5
	done
	return 1
}

# A node takes about 30 inotify instances, and the kernel's default is 128 for all processes of a user: the fourth or fifth
# node fails with "too many open files". Raised until the next boot.
make_room_for_inotify() {
	local limit=/proc/sys/fs/inotify/max_user_instances
	if [ "$(cat $limit)" -ge 1024 ]; then return; fi
	if is_root && echo 1024 2>/dev/null >$limit; then
		say 'fs.inotify.max_user_instances: raised to 1024, until the next boot'
	fi
}

cluster_make() {
	local name=$1 kind=$2 validity=$3
	make_room_for_inotify
	mkdir -p "$LAB_CACHE/clusters"
	echo "making $4" >"$LAB_CACHE/clusters/$name"
	step "cluster $name" cluster_create "$name" "$kind" "$validity"
	echo "$4" >"$LAB_CACHE/clusters/$name"
}

cluster_create() {
	local name=$1
	rm -f "$(kubeconfig_path "$name")"
	if ! cluster_begin "$@"; then
		rm -rf "$LAB_CACHE/log/cluster-$name"
		# the cluster has failed already: what of its logs there is helps, and their absence is no other failure
		"$BIN/kind" export logs --name "$name" "$LAB_CACHE/log/cluster-$name" || true
		docker_remove "$name"
		echo "The nodes' logs are in $LAB_CACHE/log/cluster-$name"
		return 1
	fi
}

# Called in a condition, so each command has to say that the next one needs it.
cluster_begin() {
	local name=$1 kind=$2 validity=$3
	if [ "$kind" = external-etcd ]; then etcd_begin "$name" "$validity" || return 1; fi
	cluster_config "$kind" "$validity" "$name" |
		"$BIN/kind" create cluster --name "$name" --config - --image "$NODE_IMAGE" --kubeconfig "$(kubeconfig_path "$name")" --wait 3m --retain &&
		# First of all: a cluster may live four minutes only.
		{ [ -z "$validity" ] || restore_validity "$name"; } &&
		k "$name" -n kube-system rollout status --timeout 90s deployment/coredns
}

cluster_config() {
	local kind=$1 validity=$2 name=$3
	sed "s|@ETCD_CLIENT@|$(etcd_dir "$name")|" "$LAB/clusters/$kind.yaml"
	printf 'kubeadmConfigPatches:\n- |\n  kind: ClusterConfiguration\n'
	[ -z "$validity" ] || echo "  certificateValidityPeriod: $validity"
	case $kind in
	external-etcd) etcd_settings "$name" ;;
	ha) ha_settings ;;
	esac | sed 's/^/  /'
}

# ECDSA: a fresh connection costs less of the two cores that five nodes share.
# etcd: with a leader that waits longer than its second for one of two cores, a write is lost that a follower has sent to him. Nor does a
# member wait for the disk, which stands still when something else writes much; only a power cut would show that.
# The API server's delay: longer than the load balancer takes to notice that it is not ready any more, as everybody sets it who restarts them.
ha_settings() {
	cat <<-END
		encryptionAlgorithm: ECDSA-P256
		etcd:
		  local:
		    extraArgs:
		    - {name: heartbeat-interval, value: "250"}
		    - {name: election-timeout, value: "2500"}
		    - {name: unsafe-no-fsync, value: "true"}
		apiServer:
		  extraArgs:
		  - {name: shutdown-delay-duration, value: 6s}
	END
}

# The certificates are born with little time left; the cluster's own configuration says a year again, or whoever renews
# by it would make certificates that are due at once.
restore_validity() {
	k "$1" -n kube-system get configmap kubeadm-config -o yaml |
		sed -E "s/^( *certificateValidityPeriod:).*/\1 $A_YEAR/" |
		k "$1" replace -f - &&
		k "$1" -n kube-system get configmap kubeadm-config -o yaml | grep -qE "^ *certificateValidityPeriod: $A_YEAR\$"
}

cluster_down() {
	local name names=("$@")
	if [ ${#names[@]} -eq 0 ] || [ "${names[*]}" = all ]; then
		names=()
		for name in "$LAB_CACHE"/clusters/*; do [ ! -e "$name" ] || names+=("${name##*/}"); done
		if [ ${#names[@]} -eq 0 ]; then say 'no cluster of the lab is there'; fi
	fi
	for name in ${names[@]+"${names[@]}"}; do
		check_name "$name"
		cluster_remove "$name"
	done
}

cluster_remove() {
	if docker_reachable && cluster_exists "$1"; then
		step "cluster $1: removing" docker_remove "$1"
	else
		say "cluster $1: not there"
	fi
	rm -f "$LAB_CACHE/clusters/$1" "$(kubeconfig_path "$1")"
	rm -rf "$(ssh_dir "$1")" "$(etcd_dir "$1")"
}

# As kind does it, without needing kind
docker_remove() {
	machines_of "$1" | xargs docker rm -f -v
}

cluster_kubeconfig() {
	[ $# -eq 1 ] || die 'kubeconfig: which cluster?' '' 'lab/lab kubeconfig certops'
	check_name "$1"
	[ -e "$(kubeconfig_path "$1")" ] || die "there is no kubeconfig of a cluster $1" "$(kubeconfig_path "$1") does not exist" "lab/lab up single --name $1"
	kubeconfig_path "$1"
}

lab_status() {
	local name
	say "cache: $LAB_CACHE"
	if ! docker_reachable; then
		say "docker: not reachable ($(docker_complaint))"
		return
	fi
	say "docker: version $(docker version -f '{{.Server.Version}}')$([ ! -s "$DOCKER_STATE" ] || echo ', started by the lab')"
	for name in $(docker ps -a --filter label=io.x-k8s.kind.cluster --format '{{.Label "io.x-k8s.kind.cluster"}}' | sort -u); do
		cluster_status "$name"
	done
}

cluster_status() {
	local settings
	settings=$(settings_of "$1")
	say "cluster $1: ${settings:-not made by the lab}"
	docker ps -a --filter "label=io.x-k8s.kind.cluster=$1" --format '  {{.Names}}: {{.Status}}' | sort
	docker ps -a --filter "label=$ETCD_LABEL=$1" --format '  {{.Names}}: {{.Status}}' | sort
	if k "$1" get --raw /readyz --request-timeout 3s >/dev/null 2>&1; then
		echo "  ready: export KUBECONFIG=$(kubeconfig_path "$1")"
	else
		echo '  not ready, or no valid kubeconfig of it is in this cache'
	fi
}
