# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Programs from Go modules. Each set lies in $LAB_CACHE/tools/SET-KEY, its programs are linked from $BIN.
# shellcheck shell=bash

# build_tools SET...: node, probe and aggregated are ours (src/), the others are upstream projects (mod/)
build_tools() {
	local set dir
	for set in "$@"; do
		dir=$(tools_dir "$set")
		if [ ! -d "$dir" ]; then
			need_go
			step "binaries: $set" build_set "$set" "$dir"
			prune_tools "$set" "$dir"
		else
			skip "binaries: $set"
		fi
		link_tools "$dir"
	done
}

need_go() {
	need go 'the binaries are built from their Go modules' 'install Go (https://go.dev/doc/install); any release since 1.21 fetches the one that is needed'
	local minor
	minor=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
	[ -z "$minor" ] || [ "$minor" -ge 21 ] ||
		die "Go 1.$minor is too old" 'releases before 1.21 cannot fetch the newer one that Kubernetes needs' 'install a newer Go (https://go.dev/doc/install)'
}

tools_dir() { echo "$LAB_CACHE/tools/$1-$(tools_key "$1")"; }

tools_key() {
	local machine
	machine=$(uname -m)
	case $1 in
	node | probe | aggregated) KEY_EXTRA=$machine key "src/$1" ;;
	*) KEY_EXTRA="$machine $(link_flags "$1") $(build_tags "$1")" key "mod/$1" ;;
	esac
}

# Versions that upstream's own builds put into the programs
link_flags() {
	local v=k8s.io/component-base/version
	case $1 in
	k8s)
		echo "-X $v.gitVersion=$KUBERNETES -X $v.gitMajor=1 -X $v.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES") -X $v.gitTreeState=clean" \
			"-X $v.gitCommit=0000000000000000000000000000000000000000 -X $v.buildDate=1970-01-01T00:00:00Z"
		;;
	containerd)
		echo "-X github.com/containerd/containerd/v2/version.Version=$(awk '$1 == "github.com/containerd/containerd/v2" && NF > 1 {print $2}' "$LAB/mod/containerd/go.mod")"
		;;
	esac
}

build_tags() { [ "$1" != containerd ] || echo no_btrfs,no_devmapper,no_zfs,no_aufs; }

build_set() {
	local set=$1 dir=$2
	rm -rf "$dir.new"
	mkdir -p "$dir.new"
	export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off
	case $set in
	node | probe | aggregated) go -C "$LAB/src/$set" build -trimpath -ldflags '-s -w' -o "$dir.new/" ./... ;;
	*) go -C "$LAB/mod/$set" build -trimpath -tags "$(build_tags "$set")" -ldflags "-s -w $(link_flags "$set")" -o "$dir.new/" tool ;;
	esac
	[ ! -e "$dir.new/server" ] || mv "$dir.new/server" "$dir.new/etcd" # go names a program after its package's folder
	mv "$dir.new" "$dir"
}

# Keep the newest two of a set: another branch may need the other one.
prune_tools() {
	local old
	find "$LAB_CACHE/tools" -mindepth 1 -maxdepth 1 -name "$1-????????????????" ! -path "$2" -printf '%T@ %p\n' | sort -rn | sed '1d; s/^[^ ]* //' |
		while read -r old; do rm -rf "$old"; done
}

link_tools() {
	mkdir -p "$BIN"
	ln -sfn "$1"/* "$BIN/"
}

probe() {
	[ "$BIN/probe" -ef "$(tools_dir probe)/probe" ] || locked build_tools probe >&2
	exec "$(tools_dir probe)/probe" "$@" 9>&-
}
