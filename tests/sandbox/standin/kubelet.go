// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	podState      = "/run/kubelet-pods.json"
	podLogs       = "/var/log/pods"
	faultsDir     = "/opt/sandbox/faults" // COMPONENT holds the faults of a component, comma-separated
	kubeletPKI    = "/var/lib/kubelet/pki"
	nodeLeases    = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	lookEvery     = 200 * time.Millisecond
	changeDelay   = 10 * time.Second // a changed manifest's pod starts this long after the old one has ended
	backOffFirst  = 10 * time.Second
	backOffLimit  = 300 * time.Second
	backOffForget = 10 * time.Minute
	gracePeriod   = 30 * time.Second
)

// pod is a static pod with its one process.
type pod struct {
	name     string
	uid      string // of the manifest's content, so that a touched file changes nothing
	wanted   *container
	PID      int    `json:"pid"`
	Ticks    uint64 `json:"ticks"`
	UID      string `json:"uid"` // the manifest's that the process was started from
	started  time.Time
	restarts int
	notUntil time.Time
	ending   time.Time // SIGTERM was sent then
}

type container struct {
	Name   string   `json:"name"`
	Argv   []string `json:"argv"`
	Mounts []mount  `json:"mounts"`
}

type mount struct {
	Host     string `json:"host"`
	Path     string `json:"path"`
	ReadOnly bool   `json:"readOnly"`
	Create   string `json:"create"`
}

type kubelet struct {
	manifests string
	pods      map[string]*pod
}

func runKubelet(flags flagSet) error {
	if err := flags.need("config", "kubeconfig"); err != nil {
		return err
	}
	data, err := os.ReadFile(flags.get("config", ""))
	if err != nil {
		return err
	}
	conf, err := parseYAML(data)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	k := &kubelet{manifests: text(conf, "staticPodPath"), pods: map[string]*pod{}}
	k.adopt()
	if err := serveKubelet(conf); err != nil {
		return err
	}
	go heartbeat(flags.get("kubeconfig", ""))
	for {
		k.look()
		select {
		case <-stop:
			return nil // the pods go on
		case <-time.After(lookEvery):
		}
	}
}

// adopt takes over the processes that an earlier kubelet started; its back-off is forgotten.
func (k *kubelet) adopt() {
	data, err := os.ReadFile(podState)
	if err != nil || json.Unmarshal(data, &k.pods) != nil {
		return
	}
	for _, p := range k.pods {
		p.started = time.Now()
	}
}

func (k *kubelet) look() {
	names := k.readManifests()
	for name, p := range k.pods {
		p.name = name
		k.sync(p, names[name])
		if p.wanted == nil && p.PID == 0 {
			delete(k.pods, name)
		}
	}
	if data, err := json.Marshal(k.pods); err == nil {
		os.WriteFile(podState, data, 0o600)
	}
}

func (k *kubelet) readManifests() map[string]bool {
	present := map[string]bool{}
	files, _ := filepath.Glob(k.manifests + "/[^.]*")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		uid, wanted, err := parsePod(data)
		if err != nil {
			log.Printf("cannot read %s: %v", file, err)
			continue
		}
		present[wanted.Name] = true
		p := k.pods[wanted.Name]
		if p == nil {
			p = &pod{}
			k.pods[wanted.Name] = p
		}
		p.uid, p.wanted = uid, wanted
	}
	return present
}

func parsePod(data []byte) (string, *container, error) {
	manifest, err := parseYAML(data)
	if err != nil {
		return "", nil, err
	}
	spec, _ := manifest["spec"].(object)
	containers := items(spec, "containers")
	if text(manifest, "kind") != "Pod" || len(containers) != 1 {
		return "", nil, fmt.Errorf("not a pod with one container")
	}
	hostPaths := map[string]object{}
	for _, volume := range items(spec, "volumes") {
		hostPaths[text(volume, "name")], _ = volume["hostPath"].(object)
	}
	c := &container{Name: text(containers[0], "name")}
	for _, list := range []string{"command", "args"} {
		words, _ := containers[0][list].([]any)
		for _, word := range words {
			c.Argv = append(c.Argv, fmt.Sprint(word))
		}
	}
	for _, m := range items(containers[0], "volumeMounts") {
		from := hostPaths[text(m, "name")]
		c.Mounts = append(c.Mounts, mount{text(from, "path"), text(m, "mountPath"), text(m, "readOnly") == "true", text(from, "type")})
	}
	if len(c.Argv) == 0 {
		return "", nil, fmt.Errorf("no command")
	}
	canonical, err := json.Marshal(manifest)
	sum := md5.Sum(canonical)
	return hex.EncodeToString(sum[:]), c, err
}

func (k *kubelet) sync(p *pod, present bool) {
	if !present {
		p.wanted = nil
	}
	if p.PID != 0 && !alive(p.PID, p.Ticks) {
		log.Printf("%s: process %d has ended", p.name, p.PID)
		k.plan(p)
	}
	switch {
	case p.PID != 0 && (p.wanted == nil || p.UID != p.uid):
		p.end()
	case p.PID == 0 && p.wanted != nil && time.Now().After(p.notUntil):
		p.start()
	}
}

// plan says when an ended process may start again: at once the first time, then after 10, 20, 40 s and so on.
func (k *kubelet) plan(p *pod) {
	p.PID = 0
	switch {
	case p.UID != p.uid:
		p.restarts, p.notUntil = 0, time.Now().Add(changeDelay)
	case time.Since(p.started) > backOffForget:
		p.restarts = 0
	}
	if !p.ending.IsZero() {
		p.ending = time.Time{}
		return
	}
	if p.restarts > 0 {
		wait := min(backOffFirst<<(p.restarts-1), backOffLimit)
		log.Printf("back-off %s restarting failed container %s", wait, p.name)
		p.notUntil = time.Now().Add(wait)
	}
	p.restarts++
}

func (p *pod) end() {
	switch {
	case p.ending.IsZero():
		p.ending = time.Now()
		syscall.Kill(p.PID, syscall.SIGTERM)
	case time.Since(p.ending) > gracePeriod:
		syscall.Kill(p.PID, syscall.SIGKILL)
	}
}

func (p *pod) start() {
	spec, err := json.Marshal(p.wanted)
	if err != nil {
		log.Print(err)
		return
	}
	os.MkdirAll(podLogs, 0o755)
	output, err := os.OpenFile(filepath.Join(podLogs, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		log.Print(err)
		return
	}
	defer output.Close()
	faults, _ := os.ReadFile(filepath.Join(faultsDir, p.name))
	cmd := exec.Command("/opt/sandbox/bin/sandbox-container")
	cmd.Args = []string{"sandbox-container", string(spec)}
	cmd.Env = []string{"PATH=/usr/local/bin", "SANDBOX_CONTAINER_FAULTS=" + strings.TrimSpace(string(faults))}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS}
	hold, err := cmd.StdinPipe() // the container waits for its end before it becomes the component
	if err != nil {
		log.Print(err)
		return
	}
	defer hold.Close()
	p.started = time.Now()
	if err := cmd.Start(); err != nil {
		log.Printf("%s: %v", p.name, err)
		return
	}
	if err := showCgroup(cmd.Process.Pid, "/kubepods/burstable/pod"+p.uid+"/"+strings.ReplaceAll(uuid()+uuid(), "-", "")); err != nil {
		log.Printf("%s: %v", p.name, err)
	}
	p.PID, p.UID = cmd.Process.Pid, p.uid
	p.Ticks, _ = startTicks(p.PID)
	log.Printf("started %s as process %d", p.name, p.PID)
	go cmd.Wait()
}

func alive(pid int, ticks uint64) bool {
	now, running := startTicks(pid)
	return running && now == ticks
}

// startTicks is when a process was started; a dead one that nobody has waited for yet does not count as running.
func startTicks(pid int) (uint64, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	return ticks, err == nil && fields[0] != "Z" && fields[0] != "X"
}

// serveKubelet answers on 10250 (TLS, client certificates of the cluster's CA) and on 10248 (plain, loopback only).
func serveKubelet(conf object) error {
	certFile, keyFile := kubeletPKI+"/kubelet.crt", kubeletPKI+"/kubelet.key"
	if _, err := os.Stat(certFile); err != nil {
		hostname, _ := os.Hostname()
		pair, err := selfSigned(fmt.Sprintf("%s@%d", hostname, time.Now().Unix()), 365*24*time.Hour)
		if err != nil {
			return err
		}
		if err := writePair(pair, certFile, keyFile); err != nil {
			return err
		}
	}
	serving, err := newHotPair(certFile, keyFile)
	if err != nil {
		return err
	}
	go serving.watch()
	authentication, _ := conf["authentication"].(object)
	clients, _ := authentication["x509"].(object)
	ok := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }
	plain, secure := http.NewServeMux(), http.NewServeMux()
	plain.HandleFunc("/healthz", ok)
	secure.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		pool, err := loadPool(text(clients, "clientCAFile"))
		if err != nil || len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		options := x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if _, err := r.TLS.PeerCertificates[0].Verify(options); err != nil {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		ok(w, r)
	})
	listener, err := tls.Listen("tcp", ":10250", &tls.Config{ClientAuth: tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return serving.current.Load(), nil }})
	if err != nil {
		return err
	}
	go http.Serve(listener, secure)
	go func() { log.Fatal(http.ListenAndServe("127.0.0.1:10248", plain)) }()
	return nil
}

// heartbeat renews the node's lease; the client certificate is read once, as the kubelet does.
func heartbeat(kubeconfig string) {
	api, err := clientFromKubeconfig(kubeconfig)
	if err != nil {
		log.Print(err)
		return
	}
	hostname, _ := os.Hostname()
	for ; ; time.Sleep(2 * time.Second) {
		spec := object{"holderIdentity": hostname, "leaseDurationSeconds": 40, "renewTime": time.Now().UTC().Format(microTime)}
		lease := object{"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "spec": spec,
			"metadata": object{"name": hostname, "namespace": "kube-node-lease"}}
		if _, status, _ := api.object(http.MethodPut, nodeLeases+"/"+hostname, lease); status == http.StatusNotFound {
			api.object(http.MethodPost, nodeLeases, lease)
		}
	}
}
