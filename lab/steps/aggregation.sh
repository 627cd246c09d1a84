# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# An aggregated API: src/aggregated on the nodes, in a pod that mounts it, with a serving pair under a CA of its own.
# shellcheck shell=bash

cluster_aggregation() {
	[ $# -eq 1 ] || die 'aggregation: in which cluster?' '' 'lab/lab aggregation certops'
	check_name "$1"
	cluster_exists "$1" || die "there is no cluster $1" '' "lab/lab up single --name $1"
	build_tools aggregated
	step "cluster $1: aggregated API" aggregation_apply "$1"
}

aggregation_apply() {
	local node nodes program
	program=/opt/certops-lab/aggregated-$(tools_key aggregated)
	mapfile -t nodes < <(kubernetes_nodes "$1")
	for node in "${nodes[@]}"; do aggregation_program "$node" "$program"; done
	k "$1" -n kube-system get secret aggregated-serving >/dev/null 2>&1 ||
		aggregation_pair "${nodes[0]}" | k "$1" create -f -
	# Every node has the image of the pods' sandboxes; the program needs nothing of it.
	sed "s|@IMAGE@|$(component pause)|; s|@PROGRAM@|$program|
		s|@CA@|$(k "$1" -n kube-system get secret aggregated-serving -o 'jsonpath={.data.ca\.crt}')|" \
		"$LAB/clusters/aggregation.yaml" | k "$1" apply -f -
	k "$1" -n kube-system rollout status --timeout 90s deployment/aggregated
	k "$1" wait --for=condition=Available --timeout 90s apiservice/v1.aggregated.certops.example
}

# Under a name of its own: one that runs cannot be written to.
aggregation_program() {
	docker exec "$1" test -e "$2" ||
		docker exec -i "$1" sh -ec 'mkdir -p "${0%/*}" && cat >"$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0"' "$2" \
			<"$(tools_dir aggregated)/aggregated"
}

# Standard output: the Secret with the serving pair of a year and its CA of ten. Made on a node, as not every host has openssl.
aggregation_pair() {
	docker exec -i "$1" bash -ec '
		umask 077
		work=$(mktemp -d) && trap "rm -rf $work" EXIT && cd "$work"
		name=aggregated.kube-system.svc
		openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 3650 -subj /CN=aggregated-ca
		openssl req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj "/CN=$name"
		printf "subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth\n" $name >extensions
		openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile extensions -out tls.crt
		kubectl create secret generic aggregated-serving --namespace kube-system --type kubernetes.io/tls \
			--from-file tls.crt --from-file tls.key --from-file ca.crt --dry-run=client -o yaml'
}
