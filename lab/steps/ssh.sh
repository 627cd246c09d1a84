# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The way that users reach their nodes: SSH with a key, as somebody who may become root.
# shellcheck shell=bash

SSH_USER=ops

ssh_dir() { echo "$LAB_CACHE/ssh/$1"; }

# A key pair of this cluster, sshd on every node, and an inventory that knows them. Prints its path.
cluster_inventory() {
	[ $# -eq 1 ] || die 'inventory: which cluster?' '' 'lab/lab inventory certops-ha'
	check_name "$1"
	cluster_exists "$1" || die "there is no cluster $1" '' "lab/lab up ha --name $1"
	install_missing ssh:openssh-client ssh-keygen:openssh-client >&2
	local dir node
	dir=$(ssh_dir "$1")
	(umask 077 && mkdir -p "$dir")
	[ -s "$dir/key" ] || ssh-keygen -q -t ed25519 -N '' -C "lab $1" -f "$dir/key"
	for node in $(kubernetes_nodes "$1") $(etcd_nodes_of "$1"); do open_ssh "$node" <"$dir/key.pub" >"$dir/$node.known"; done
	cat "$dir"/*.known >"$dir/known_hosts"
	write_inventory "$1" "$dir" >"$dir/inventory.yml"
	echo "$dir/inventory.yml"
}

# kubernetes_nodes NAME [ROLE]: without the load balancer
kubernetes_nodes() {
	docker ps --filter "label=io.x-k8s.kind.cluster=$1" --format '{{.Names}} {{.Label "io.x-k8s.kind.role"}}' |
		awk -v role="${2-}" '$2 == role || (role == "" && $2 != "external-load-balancer") {print $1}' | sort -V
}

address_of() { docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1"; }

# Standard input: the public key. Standard output: the node's host key as known_hosts has it.
open_ssh() {
	docker exec -i -e "USER_NAME=$SSH_USER" "$1" sh -ec '
		id "$USER_NAME" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$USER_NAME"
		home=$(getent passwd "$USER_NAME" | cut -d: -f6)
		umask 077
		mkdir -p "$home/.ssh"
		cat >"$home/.ssh/authorized_keys"
		chown -R "$USER_NAME:" "$home/.ssh"
		echo "$USER_NAME ALL=(ALL) NOPASSWD: ALL" >"/etc/sudoers.d/$USER_NAME"
		ssh-keygen -A >/dev/null
		systemctl enable --now ssh >/dev/null 2>&1'
	echo "$(address_of "$1") $(docker exec "$1" cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)"
}

# group_members NAME GROUP:ROLE ETCD-HOSTS
group_members() {
	if [ "${2%:*}" = etcd ] && [ -n "$3" ]; then echo "$3"; else kubernetes_nodes "$1" "${2#*:}"; fi
}

write_inventory() {
	local group node etcd
	etcd=$(etcd_nodes_of "$1")
	cat <<END
# Made by lab/lab inventory $1
all:
  vars:
    ansible_user: $SSH_USER
    ansible_become: true
    ansible_ssh_private_key_file: $2/key
    ansible_ssh_common_args: -o UserKnownHostsFile=$2/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes
  hosts:
END
	for node in $(kubernetes_nodes "$1") $etcd; do echo "    $node: {ansible_host: $(address_of "$node")}"; done
	echo '  children:'
	for group in kube_control_plane:control-plane etcd:control-plane kube_node:worker; do
		echo "    ${group%:*}:"
		echo '      hosts:'
		for node in $(group_members "$1" "$group" "$etcd"); do echo "        $node:"; done
	done
}
