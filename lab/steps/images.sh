# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Images. Each carries the key of what it was made from as a label; one that has the wanted key is not made again.
# shellcheck shell=bash

BASE_IMAGE=certops-lab/debian:$DEBIAN
BARE_IMAGE=certops-lab/node-bare:$KUBERNETES
OWN_IMAGE=certops-lab/node:$KUBERNETES
LABEL=certops-lab.key

NODE_TOOLS=(k8s containerd etcd coredns crictl node)

build_all() {
	docker_up
	build_single
	if [ -z "${LAB_NODE_IMAGE-}" ]; then build_load_balancer; fi
}

# What a one-node cluster needs; the name of its node image is then in $NODE_IMAGE.
build_single() {
	build_tools kind probe
	if [ -n "${LAB_NODE_IMAGE-}" ]; then
		build_stock_node
	else
		build_tools "${NODE_TOOLS[@]}"
		build_base
		build_node
	fi
}

# nothing, where there is no such image yet
image_key() { docker image inspect -f "{{index .Config.Labels \"$LABEL\"}}" "$1" 2>/dev/null || true; }

# With a client that lacks the buildx plugin only the old builder works.
docker_build() {
	docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
	docker build --network host "$@"
}

# Replaced images that nothing uses any more
prune_images() { docker image prune -f --filter "label=$LABEL" >/dev/null; }

build_base() {
	local wanted
	wanted=$DEBIAN-$(uname -m)
	if [ "$(image_key "$BASE_IMAGE")" = "$wanted" ]; then
		skip 'image: debian'
		return
	fi
	is_root || die 'the node image cannot be made here' "debootstrap needs root, and this is user $(id -un)" \
		'run the command as root, or set LAB_NODE_IMAGE=kindest/node:v1.x if this Docker daemon can pull that image'
	install_missing debootstrap:debootstrap
	step 'image: debian' make_base "$wanted"
}

make_base() {
	local root
	root=$(mktemp -d "$LAB_CACHE/debian.XXXXXX")
	# shellcheck disable=SC2064  # this very folder
	trap "rm -rf --one-file-system '$root'" EXIT
	# In a mount namespace of its own: debootstrap mounts /proc in there, and one that is killed would leave it behind for the next rm.
	unshare --mount debootstrap --variant=minbase "$DEBIAN" "$root" ${LAB_DEBIAN_MIRROR:+"$LAB_DEBIAN_MIRROR"}
	tar -C "$root" -c . | docker import -c "LABEL $LABEL=$1" - "$BASE_IMAGE"
}

build_node() {
	local wanted set extra=$TEST_IMAGE
	NODE_IMAGE=$OWN_IMAGE
	for set in "${NODE_TOOLS[@]}"; do extra+=" $(tools_key "$set")"; done
	extra+=" $(docker image inspect -f '{{.Id}}' "$BASE_IMAGE")"
	wanted=$(KEY_EXTRA=$extra key image/node image/podnet steps/images.sh)
	if [ "$(image_key "$OWN_IMAGE")" = "$wanted" ]; then
		skip 'image: node'
		return
	fi
	step 'image: node without images of its own' make_bare_node
	step 'image: node' make_node "$wanted"
}

# The image that kubeadm expects for a component
component() { "$BIN/kubeadm" config images list --kubernetes-version "$KUBERNETES" | grep -E "[/]$1:"; }

make_bare_node() {
	local context name
	context=$(mktemp -d "$LAB_CACHE/node.XXXXXX")
	# shellcheck disable=SC2064  # this very folder
	trap "rm -rf '$context'" EXIT
	cp -R "$LAB/image/node/." "$context/"
	chmod -R u=rwX,go=rX "$context" # whatever the umask of the clone was
	mkdir "$context/programs"
	for name in containerd containerd-shim-runc-v2 ctr crictl oci-caps kubeadm kubelet kubectl; do
		cp -lL "$BIN/$name" "$context/programs/"
	done
	echo "$KUBERNETES" >"$context/kind/version"
	sed -i "s|@PAUSE@|$(component pause)|; s|@KUBE_PROXY@|$(component kube-proxy)|" \
		"$context/etc/containerd/config.toml" "$context/kind/manifests/default-cni.yaml"
	docker_build -t "$BARE_IMAGE" --build-arg "BASE=$BASE_IMAGE" "$context"
}

# The bare node plus the control plane's images, unpacked in containerd's store. overlayfs cannot lie on overlayfs, so
# the store is made on a volume, then copied into the container, and that is committed.
make_node() {
	local id work
	work=$(mktemp -d "$LAB_CACHE/images.XXXXXX")
	id=$(docker run -d --privileged --network none -v /mnt --entrypoint sleep "$BARE_IMAGE" infinity)
	# shellcheck disable=SC2064  # this very container and folder
	trap "docker rm -fv $id; rm -rf '$work'" EXIT
	docker exec -d "$id" containerd --root /mnt
	until docker exec "$id" ctr version >/dev/null 2>&1; do sleep 0.2; done

	import kube-apiserver '[]' usr/local/bin/kube-apiserver
	import kube-controller-manager '[]' usr/local/bin/kube-controller-manager
	import kube-scheduler '[]' usr/local/bin/kube-scheduler
	import etcd '[]' usr/local/bin/etcd usr/local/bin/etcdctl
	import coredns '["/coredns"]' coredns
	import pause '["/pause"]' pause
	network_tools "$id" | tar -C "$(root kube-proxy)" -x
	install -D -m 755 "$LAB/image/podnet/podnet" "$(root kube-proxy)/usr/local/bin/podnet"
	import kube-proxy '[]' usr/local/bin/kube-proxy
	shell_tools "$id" | tar -C "$(root test)" -x
	import test '["/bin/sh"]'

	docker exec "$id" sh -ec 'kill $(pidof containerd); while pidof containerd >/dev/null; do sleep 0.1; done
		mkdir -p /var/lib/containerd && cp -a /mnt/. /var/lib/containerd/'
	docker commit -c "LABEL $LABEL=$1" -c 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' -c 'CMD []' "$id" "$OWN_IMAGE"
	prune_images
}

# root NAME: the folder in which the root of an image is put together (in make_node's $work)
root() {
	mkdir -p "$work/$1/tmp"
	echo "$work/$1"
}

# import NAME ENTRYPOINT [PROGRAM-PATH...]: the root with the programs in it, as an image of one layer, into the node's containerd
import() {
	local name=$1 entrypoint=$2 path dir image layer
	dir=$(root "$name")
	for path in "${@:3}"; do
		mkdir -p "$(dirname "$dir/$path")"
		cp -lL "$BIN/${path##*/}" "$dir/$path"
	done
	image=$TEST_IMAGE
	[ "$name" = test ] || image=$(component "$name")
	mkdir "$work/archive"
	tar -C "$dir" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/archive/layer.tar" .
	layer=$(sha256sum <"$work/archive/layer.tar" | cut -c1-64)
	cat >"$work/archive/config.json" <<END
{"architecture": "$(go_machine)", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]},
 "config": {"Entrypoint": $entrypoint, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}}
END
	echo "[{\"Config\": \"config.json\", \"RepoTags\": [\"$image\"], \"Layers\": [\"layer.tar\"]}]" >"$work/archive/manifest.json"
	# --discard-unpacked-layers needs --local, and halves the store.
	tar -C "$work/archive" -c manifest.json config.json layer.tar |
		docker exec -i "$id" ctr -n k8s.io images import --local --discard-unpacked-layers -
	rm -rf "$work/archive" "$dir"
}

go_machine() {
	case $(uname -m) in
	x86_64) echo amd64 ;;
	aarch64) echo arm64 ;;
	*) uname -m ;;
	esac
}

# Programs of the node with their libraries, as a tar: what kube-proxy and podnet call.
network_tools() {
	docker exec "$1" sh -ec '
		programs="/usr/bin/busybox /usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/sbin/conntrack /usr/sbin/ip /usr/bin/curl /usr/bin/jq /usr/bin/kmod"
		plugins=$(echo /usr/lib/*-linux-gnu/xtables)
		rm -rf /r; mkdir -p /r/bin /r/sbin /r/usr/bin /r/usr/sbin /r/lib /r/lib64 /r/etc /r/run
		cp -aL --parents $(ldd $programs $plugins/*.so 2>/dev/null | grep -oE "/[^ :]+\.so[^ :]*" | sort -u) $programs /r
		cp -a --parents $plugins /r
		for l in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do ln -s xtables-nft-multi /r/usr/sbin/$l; done
		for a in $(busybox --list); do [ -e /r/usr/sbin/$a ] || [ -e /r/usr/bin/$a ] || ln -s /usr/bin/busybox /r/bin/$a; done
		echo "root:x:0:0:root:/:/bin/sh" >/r/etc/passwd
		tar -C /r -c .; rm -rf /r'
}

# A shell and the usual small programs (busybox), as a tar
shell_tools() {
	docker exec "$1" sh -ec '
		mkdir -p /r/bin /r/etc /r/root
		cp -L /usr/bin/busybox /r/bin/
		for a in $(busybox --list); do [ $a = busybox ] || ln -s busybox /r/bin/$a; done
		echo "root:x:0:0:root:/root:/bin/sh" >/r/etc/passwd
		tar -C /r -c .; rm -rf /r'
}

build_load_balancer() {
	local wanted
	# The real one, when somebody pulled it: nothing to replace.
	if docker image inspect "$LB_IMAGE" >/dev/null 2>&1 && [ -z "$(image_key "$LB_IMAGE")" ]; then
		skip 'image: load balancer (a stock one is there)'
		return
	fi
	wanted=$(KEY_EXTRA=$(docker image inspect -f '{{.Id}}' "$BASE_IMAGE") key image/lb)
	if [ "$(image_key "$LB_IMAGE")" = "$wanted" ]; then
		skip 'image: load balancer'
		return
	fi
	step 'image: load balancer' docker_build -t "$LB_IMAGE" --build-arg "BASE=$BASE_IMAGE" --label "$LABEL=$wanted" "$LAB/image/lb"
	prune_images
}

# A stock node image with what Ansible modules need. Its kubectl and kubeadm are taken out of it, for the host.
build_stock_node() {
	local wanted
	if ! docker image inspect "$LAB_NODE_IMAGE" >/dev/null 2>&1; then
		step "image: pull $LAB_NODE_IMAGE" docker pull "$LAB_NODE_IMAGE"
	fi
	wanted=$(KEY_EXTRA=$(docker image inspect -f '{{.Id}}' "$LAB_NODE_IMAGE") key image/stock)
	NODE_IMAGE=certops-lab/node-stock:$wanted
	if [ "$(image_key "$NODE_IMAGE")" = "$wanted" ]; then
		skip "image: node on $LAB_NODE_IMAGE"
	else
		step "image: node on $LAB_NODE_IMAGE" docker_build -t "$NODE_IMAGE" --build-arg "BASE=$LAB_NODE_IMAGE" --label "$LABEL=$wanted" "$LAB/image/stock"
	fi
	if [ ! -d "$LAB_CACHE/tools/stock-$wanted" ]; then
		step 'binaries: kubectl and kubeadm of the image' take_out_tools "$LAB_CACHE/tools/stock-$wanted"
		prune_tools stock "$LAB_CACHE/tools/stock-$wanted"
	fi
	link_tools "$LAB_CACHE/tools/stock-$wanted"
}

take_out_tools() {
	local id
	id=$(docker create "$NODE_IMAGE")
	# shellcheck disable=SC2064  # this very container
	trap "docker rm $id" EXIT
	rm -rf "$1.new"
	mkdir -p "$1.new"
	docker cp "$id:/usr/bin/kubectl" "$1.new/"
	docker cp "$id:/usr/bin/kubeadm" "$1.new/"
	mv "$1.new" "$1"
}
