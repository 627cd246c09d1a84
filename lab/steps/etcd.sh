# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Three etcd members outside of a cluster, each on a host of its own that is made of the node image, and each in another way:
#   1  a unit that its environment configures, with kubespray's files; the only host that has the CA's key
#   2  a unit that a configuration file configures
#   3  a static pod of a kubelet that has no API server, as kubeadm's guide makes it
# shellcheck shell=bash

ETCD_LABEL=certops-lab.etcd-of
SSL=/etc/ssl/etcd/ssl # kubespray's folder, on the first host and on the control-plane node

# kubespray's own, in milliseconds: three members on one busy machine would lose their leader with etcd's.
ETCD_HEARTBEAT=250
ETCD_ELECTION=5000

etcd_dir() { echo "$LAB_CACHE/etcd/$1"; }
etcd_nodes_of() { docker ps -a --filter "label=$ETCD_LABEL=$1" --format '{{.Names}}' | sort; }
in_node() { docker exec -i "$1" "${@:2}"; }

# etcd_begin NAME VALIDITY: the members, and in etcd_dir what the control-plane node needs for them.
# Called in a condition, so each command has to say that the next one needs it.
etcd_begin() {
	local name=$1 nodes=("$1-etcd1" "$1-etcd2" "$1-etcd3") node
	local seconds
	seconds=$(seconds_of "${2:-$A_YEAR}")
	etcd_network || return 1
	for node in "${nodes[@]}"; do etcd_host "$name" "$node" || return 1; done
	for node in "${nodes[@]}"; do etcd_programs "$node" || return 1; done
	etcd_authority "${nodes[0]}" &&
		etcd_environment_member "${nodes[0]}" "$seconds" "${nodes[@]}" &&
		etcd_file_member "${nodes[1]}" "$seconds" "${nodes[@]}" &&
		etcd_pod_member "${nodes[2]}" "${2:-$A_YEAR}" "${nodes[@]}" &&
		etcd_wait "${nodes[@]}" &&
		etcd_client "$name" "${nodes[0]}" "$seconds"
}

# A duration as Go writes it
seconds_of() {
	[[ $1 =~ ^(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?$ ]] ||
		die "\"$1\" is not understood" 'an external etcd gets its certificates by openssl' 'write hours, minutes, seconds, each once and in this order'
	echo $((${BASH_REMATCH[2]:-0} * 3600 + ${BASH_REMATCH[4]:-0} * 60 + ${BASH_REMATCH[6]:-0}))
}

# kind makes its network with the first cluster, and takes one that is there.
etcd_network() {
	docker network inspect kind >/dev/null 2>&1 ||
		docker network create -d bridge -o com.docker.network.bridge.enable_ip_masquerade=true kind
}

# A container like those that kind makes
etcd_host() {
	docker run --detach --tty --name "$2" --hostname "$2" --label "$ETCD_LABEL=$1" --net kind --init=false --cgroupns=private \
		--privileged --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
		--tmpfs /tmp --tmpfs /run --volume /var --volume /lib/modules:/lib/modules:ro "$NODE_IMAGE"
}

# etcd and etcdctl out of the image that the node has for static pods
etcd_programs() {
	in_node "$1" sh -ec '
		until systemctl is-active -q containerd && ctr version >/dev/null 2>&1; do sleep 0.2; done
		mkdir -p /mnt/etcd
		ctr -n k8s.io images mount "$(ctr -n k8s.io images ls -q | grep "/etcd:")" /mnt/etcd
		cp /mnt/etcd/usr/local/bin/etcd /mnt/etcd/usr/local/bin/etcdctl /usr/local/bin/
		ctr -n k8s.io images unmount --rm /mnt/etcd'
}

etcd_authority() {
	in_node "$1" sh -ec '
		umask 077
		mkdir -p "$0" && cd "$0"
		openssl req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca.pem -days 3650 -subj /CN=etcd-ca' $SSL
}

# etcd_sign FIRST-NODE SECONDS SANS <CSR >CERTIFICATE: as kubespray's script signs, but to the second
etcd_sign() {
	in_node "$1" bash -ec '
		work=$(mktemp -d) && trap "rm -rf $work" EXIT && cd "$work"
		touch index.txt && cat >request
		cat >ca.cnf <<-END
			[ca]
			default_ca = etcd
			[etcd]
			database = index.txt
			new_certs_dir = .
			certificate = $0/ca.pem
			private_key = $0/ca-key.pem
			rand_serial = yes
			default_md = sha256
			policy = any
			[any]
			commonName = supplied
			[member]
			extendedKeyUsage = clientAuth, serverAuth
			basicConstraints = CA:FALSE
			subjectKeyIdentifier = hash
			authorityKeyIdentifier = keyid,issuer
			subjectAltName = $2
		END
		stamp() { date -u -d "$1" +%Y%m%d%H%M%SZ; }
		openssl ca -batch -notext -config ca.cnf -extensions member -in request -out certificate \
			-startdate "$(stamp "-5 minutes")" -enddate "$(stamp "+$1 seconds")" >&2
		cat certificate' $SSL "$2" "$3"
}

# etcd_pair FIRST-NODE SECONDS NODE CN KEY CERTIFICATE SANS: the key is made on its node, a request goes to the first one
etcd_pair() {
	in_node "$3" sh -ec '
		umask 077
		mkdir -p "$(dirname "$0")"
		openssl req -new -newkey rsa:2048 -nodes -keyout "$0" -subj "/CN=$1"' "$5" "$4" |
		etcd_sign "$1" "$2" "$7" | in_node "$3" sh -ec 'mkdir -p "$(dirname "$0")"; cat >"$0"' "$6"
}

sans_of() { echo "DNS:localhost,IP:127.0.0.1,DNS:$1,IP:$(address_of "$1")"; }

initial_cluster() {
	local node members=()
	for node in "$@"; do members+=("$node=https://$(address_of "$node"):2380"); done
	(IFS=, && echo "${members[*]}")
}

etcd_environment_member() {
	local node=$1 address
	address=$(address_of "$node")
	etcd_pair "$3" "$2" "$node" "etcd-member-$node" "$SSL/member-$node-key.pem" "$SSL/member-$node.pem" "$(sans_of "$node")" &&
		etcd_pair "$3" "$2" "$node" "etcd-admin-$node" "$SSL/admin-$node-key.pem" "$SSL/admin-$node.pem" "$(sans_of "$node")" &&
		in_node "$node" sh -c 'cat >/etc/etcd.env' <<-END &&
			# Environment file for etcd
			ETCD_DATA_DIR=/var/lib/etcd
			ETCD_NAME=$node
			ETCD_ADVERTISE_CLIENT_URLS=https://$address:2379
			ETCD_INITIAL_ADVERTISE_PEER_URLS=https://$address:2380
			ETCD_INITIAL_CLUSTER=$(initial_cluster "${@:3}")
			ETCD_LISTEN_CLIENT_URLS=https://$address:2379,https://127.0.0.1:2379
			ETCD_LISTEN_PEER_URLS=https://$address:2380
			ETCD_HEARTBEAT_INTERVAL=$ETCD_HEARTBEAT
			ETCD_ELECTION_TIMEOUT=$ETCD_ELECTION
			ETCD_UNSAFE_NO_FSYNC=true

			# TLS settings
			ETCD_TRUSTED_CA_FILE=$SSL/ca.pem
			ETCD_CERT_FILE=$SSL/member-$node.pem
			ETCD_KEY_FILE=$SSL/member-$node-key.pem
			ETCD_CLIENT_CERT_AUTH=true
			ETCD_PEER_TRUSTED_CA_FILE=$SSL/ca.pem
			ETCD_PEER_CERT_FILE=$SSL/member-$node.pem
			ETCD_PEER_KEY_FILE=$SSL/member-$node-key.pem
			ETCD_PEER_CLIENT_CERT_AUTH=true
		END
		in_node "$node" sh -ec 'useradd --system etcd && install -d -o etcd -g etcd -m 700 /var/lib/etcd && chown -R etcd:etcd /etc/ssl/etcd
			chmod 640 /etc/ssl/etcd/ssl/*-key.pem' &&
		etcd_unit "$node" <<-END
			User=etcd
			EnvironmentFile=/etc/etcd.env
			ExecStart=/usr/local/bin/etcd
			Restart=always
			RestartSec=10s
		END
}

etcd_file_member() {
	local node=$1 address pki=/etc/etcd/pki
	address=$(address_of "$node")
	etcd_pair "$3" "$2" "$node" "$node" $pki/server.key $pki/server.crt "$(sans_of "$node")" &&
		etcd_pair "$3" "$2" "$node" "$node" $pki/peer.key $pki/peer.crt "$(sans_of "$node")" &&
		in_node "$3" cat $SSL/ca.pem | in_node "$node" sh -c "cat >$pki/ca.crt" &&
		in_node "$node" sh -c 'cat >/etc/etcd/etcd.conf.yml' <<-END &&
			name: $node
			data-dir: /var/lib/etcd
			listen-client-urls: https://0.0.0.0:2379
			advertise-client-urls: https://$address:2379
			listen-peer-urls: https://$address:2380
			initial-advertise-peer-urls: https://$address:2380
			initial-cluster: $(initial_cluster "${@:3}")
			heartbeat-interval: $ETCD_HEARTBEAT
			election-timeout: $ETCD_ELECTION
			unsafe-no-fsync: true
			client-transport-security: {cert-file: $pki/server.crt, key-file: $pki/server.key, trusted-ca-file: $pki/ca.crt, client-cert-auth: true}
			peer-transport-security: {cert-file: $pki/peer.crt, key-file: $pki/peer.key, trusted-ca-file: $pki/ca.crt, client-cert-auth: true}
		END
		etcd_unit "$node" <<-END
			ExecStart=/usr/local/bin/etcd --config-file=/etc/etcd/etcd.conf.yml
			Restart=on-failure
		END
}

# Standard input: what the [Service] section says besides. Not waited for: no member is ready before there are two.
etcd_unit() {
	in_node "$1" sh -ec '
		{ printf "[Unit]\nDescription=etcd\nAfter=network.target\n\n[Service]\nType=notify\n"
			cat
			printf "LimitNOFILE=40000\n\n[Install]\nWantedBy=multi-user.target\n"
		} >/etc/systemd/system/etcd.service
		systemctl enable -q etcd && systemctl start --no-block etcd'
}

# kubeadm makes the certificates where the CA's key is, and they are carried over; then its manifest, and a kubelet for it.
etcd_pod_member() {
	local node=$1 validity=$2 address
	address=$(address_of "$node")
	in_node "$node" sh -c 'cat >/root/kubeadmcfg.yaml' <<-END &&
		apiVersion: kubeadm.k8s.io/v1beta4
		kind: InitConfiguration
		nodeRegistration: {name: $node}
		localAPIEndpoint: {advertiseAddress: $address}
		---
		apiVersion: kubeadm.k8s.io/v1beta4
		kind: ClusterConfiguration
		kubernetesVersion: $(in_node "$node" cat /kind/version)
		certificateValidityPeriod: $validity
		etcd:
		  local:
		    serverCertSANs: [$address]
		    peerCertSANs: [$address]
		    extraArgs:
		    - {name: name, value: $node}
		    - {name: initial-cluster, value: "$(initial_cluster "${@:3}")"}
		    - {name: initial-cluster-state, value: new}
		    - {name: heartbeat-interval, value: "$ETCD_HEARTBEAT"}
		    - {name: election-timeout, value: "$ETCD_ELECTION"}
		    - {name: unsafe-no-fsync, value: "true"}
		    - {name: listen-client-urls, value: "https://127.0.0.1:2379,https://$address:2379"}
		    - {name: listen-peer-urls, value: "https://$address:2380"}
		    - {name: advertise-client-urls, value: "https://$address:2379"}
		    - {name: initial-advertise-peer-urls, value: "https://$address:2380"}
	END
		in_node "$node" cat /root/kubeadmcfg.yaml | in_node "$3" sh -ec '
			work=$(mktemp -d) && trap "rm -rf $work" EXIT
			sed "s|^etcd:|certificatesDir: $work/pki\n&|" >"$work/config.yaml"
			mkdir -p "$work/pki/etcd"
			cp "$0/ca.pem" "$work/pki/etcd/ca.crt"
			cp "$0/ca-key.pem" "$work/pki/etcd/ca.key"
			for one in etcd-server etcd-peer etcd-healthcheck-client; do kubeadm init phase certs $one --config "$work/config.yaml" >&2; done
			rm "$work/pki/etcd/ca.key"
			tar -C "$work" -c pki' $SSL | in_node "$node" tar -C /etc/kubernetes -x --no-same-owner &&
		in_node "$node" sh -ec '
			kubeadm init phase etcd local --config /root/kubeadmcfg.yaml
			mkdir -p /var/lib/kubelet /etc/systemd/system/kubelet.service.d
			cat >/var/lib/kubelet/config.yaml
			options="--config=/var/lib/kubelet/config.yaml"
			[ ! -d /etc/kubernetes/kubelet.conf.d ] || options="$options --config-dir=/etc/kubernetes/kubelet.conf.d"
			printf "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet %s\nRestart=always\n" "$options" >/etc/systemd/system/kubelet.service.d/20-etcd-service-manager.conf
			systemctl daemon-reload && systemctl restart kubelet' <<-END
				apiVersion: kubelet.config.k8s.io/v1beta1
				kind: KubeletConfiguration
				authentication: {anonymous: {enabled: false}, webhook: {enabled: false}}
				authorization: {mode: AlwaysAllow}
				address: 127.0.0.1
				containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
				staticPodPath: /etc/kubernetes/manifests
			END
}

etcd_wait() {
	local node
	for node in "$@"; do
		in_node "$1" bash -ec '
			for _ in $(seq 240); do
				etcdctl --endpoints "https://$1:2379" --cacert "$0/ca.pem" --cert "$0/member-$2.pem" --key "$0/member-$2-key.pem" endpoint health && exit
				sleep 0.5
			done
			exit 1' $SSL "$(address_of "$node")" "$1" || return 1
	done
}

# The API server's client pair, with kubespray's names, for kind to mount into the control-plane node.
etcd_client() {
	local dir client=$1-control-plane
	dir=$(etcd_dir "$1")
	(umask 077 && mkdir -p "$dir") &&
		etcd_pair "$2" "$3" "$2" "etcd-node-$client" "/root/client/node-$client-key.pem" "/root/client/node-$client.pem" "DNS:$client" &&
		in_node "$2" sh -ec 'cp "$0/ca.pem" /root/client/ && tar -C /root/client -c . && rm -r /root/client' $SSL | tar -C "$dir" -x --no-same-owner
}

# What kubeadm's ClusterConfiguration says of it
etcd_settings() {
	local node endpoints=()
	for node in $(etcd_nodes_of "$1"); do endpoints+=("https://$(address_of "$node"):2379"); done
	cat <<END
etcd:
  external:
    endpoints: [$(IFS=, && echo "${endpoints[*]}")]
    caFile: $SSL/ca.pem
    certFile: $SSL/node-$1-control-plane.pem
    keyFile: $SSL/node-$1-control-plane-key.pem
END
}
