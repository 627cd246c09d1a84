// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	forbiddenFor = time.Second            // after its start the API server answers 403 to everything: RBAC is not loaded yet
	unreadyFor   = 500 * time.Millisecond // and after that /readyz says 500 for a while
	lingerFor    = 60 * time.Second       // after SIGTERM it stays for as long as watches are open, at most this long
)

type apiServer struct {
	flags   flagSet
	etcd    *etcdClient
	started time.Time
	ending  context.Context
	writes  sync.Mutex
}

func runAPIServer(flags flagSet) error {
	if err := flags.need("advertise-address", "secure-port", "tls-cert-file", "tls-private-key-file", "client-ca-file", "etcd-servers",
		"etcd-cafile", "etcd-certfile", "etcd-keyfile", "kubelet-client-certificate", "kubelet-client-key",
		"service-account-key-file", "service-account-signing-key-file", "proxy-client-cert-file", "requestheader-client-ca-file"); err != nil {
		return err
	}
	serving, err := newHotPair(flags.get("tls-cert-file", ""), flags.get("tls-private-key-file", ""))
	if err != nil {
		return err
	}
	if !fault("no-reload") {
		go serving.watch()
	}
	loopback, err := selfSigned(fmt.Sprintf("apiserver-loopback-client@%d", time.Now().Unix()), (3*365+1)*24*time.Hour)
	if err != nil {
		return err
	}
	etcd, err := newEtcdClient(flags)
	if err != nil {
		return err
	}
	ending, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s := &apiServer{flags: flags, etcd: etcd, started: time.Now(), ending: ending}
	server := &http.Server{Handler: s, TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequestClientCert,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName == "apiserver-loopback-client" {
				return loopback, nil
			}
			return serving.current.Load(), nil
		},
		NextProtos: []string{"http/1.1"},
	}}
	listener, err := net.Listen("tcp", ":"+flags.get("secure-port", ""))
	if err != nil {
		return err
	}
	log.Printf("serving securely on %s", listener.Addr())
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-failed:
		return err
	case <-ending.Done():
	}
	log.Print("received SIGTERM, listener closed, waiting for open watches")
	limit, cancel := context.WithTimeout(context.Background(), lingerFor)
	defer cancel()
	if err := server.Shutdown(limit); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// user is who asks, by the client certificate.
type user struct {
	name       string
	groups     []string
	credential string
}

// authenticate verifies the client certificate for each request anew, with the CA file as it is now.
func (s *apiServer) authenticate(r *http.Request) (user, bool) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return user{name: "system:anonymous", groups: []string{"system:unauthenticated"}}, r.Header.Get("Authorization") == ""
	}
	pool, err := loadPool(s.flags.get("client-ca-file", ""))
	if err != nil {
		return user{}, false
	}
	leaf := r.TLS.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		log.Printf("unable to authenticate the request: %v", err)
		return user{}, false
	}
	sum := sha256.Sum256(leaf.Raw)
	groups := append(append([]string{}, leaf.Subject.Organization...), "system:authenticated")
	return user{leaf.Subject.CommonName, groups, "X509SHA256=" + hex.EncodeToString(sum[:])}, true
}

func (u user) in(group string) bool {
	for _, g := range u.groups {
		if g == group {
			return true
		}
	}
	return false
}

// allowed is the small part of Kubernetes' default roles that matters here.
func (u user) allowed(method, path string) bool {
	read := method == http.MethodGet || method == http.MethodHead
	switch {
	case u.in("system:masters"), u.in("kubeadm:cluster-admins"):
		return true
	case read && (path == "/readyz" || path == "/livez" || path == "/healthz" || path == "/version"):
		return true // for everybody, but not what lies below them
	case u.in("system:unauthenticated"):
		return false
	case path == selfSubjectReviews && method == http.MethodPost:
		return true
	case u.name == "system:kube-controller-manager", u.name == "system:kube-scheduler":
		own := leasePath + strings.TrimPrefix(u.name, "system:")
		_, plural, single, _ := registryKey(path)
		others := !single && plural != "" || plural == "configmaps" // the controller manager may list whatever there is, and get a few kinds
		if u.name == "system:kube-scheduler" {
			others = plural == "nodes" || plural == "namespaces"
		}
		return (read || method == http.MethodPut) && path == own || method == http.MethodPost && path+"/" == leasePath || read && others
	case u.in("system:nodes"):
		own := path == requestsPath && method == http.MethodPost || strings.HasPrefix(path, requestsPath+"/") && method == http.MethodGet
		return own || strings.HasPrefix(path, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/") ||
			read && (strings.HasPrefix(path, "/api/v1/nodes") || path == "/api/v1/namespaces/kube-system/configmaps/kubeadm-config")
	}
	return false
}

const (
	selfSubjectReviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
	leasePath          = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/"
)

func healthPath(path string) bool {
	for _, prefix := range []string{"/readyz", "/livez", "/healthz"} {
		if path == prefix || strings.HasPrefix(path, prefix+"/") {
			return true
		}
	}
	return false
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, known := s.authenticate(r)
	path := strings.TrimSuffix(r.URL.Path, "/")
	switch {
	case !known:
		fail(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
	case time.Since(s.started) < forbiddenFor, !who.allowed(r.Method, path):
		fail(w, http.StatusForbidden, "Forbidden", fmt.Sprintf("User %q cannot %s path %q", who.name, strings.ToLower(r.Method), path))
	case healthPath(path):
		s.health(w, r, path)
	case path == "/version":
		reply(w, http.StatusOK, map[string]any{"major": "1", "minor": "36", "gitVersion": "v1.36.3", "platform": "linux/amd64"})
	case path == selfSubjectReviews && r.Method == http.MethodPost:
		reply(w, http.StatusCreated, selfSubjectReview(who))
	case strings.HasSuffix(path, "/proxy/healthz") && strings.HasPrefix(path, "/api/v1/nodes/"):
		s.proxyToKubelet(w)
	case r.URL.Query().Get("watch") != "" && r.URL.Query().Get("watch") != "false":
		s.watch(w, r)
	default:
		s.objects(w, r, path, who)
	}
}

func (s *apiServer) health(w http.ResponseWriter, r *http.Request, path string) {
	var report strings.Builder
	healthy := true
	check := func(name string, err error) {
		if err == nil {
			fmt.Fprintf(&report, "[+]%s ok\n", name)
			return
		}
		healthy = false
		fmt.Fprintf(&report, "[-]%s failed: reason withheld\n", name)
		log.Printf("%s check failed: %v", name, err)
	}
	check("ping", nil)
	if !strings.HasPrefix(path, "/livez") {
		_, err := s.etcd.scan("/registry/health", "")
		check("etcd", err)
	}
	if strings.HasPrefix(path, "/readyz") {
		var starting error
		if time.Since(s.started) < forbiddenFor+unreadyFor {
			starting = errors.New("not finished")
		}
		check("poststarthook/rbac/bootstrap-roles", starting)
		check("shutdown", s.ending.Err())
	}
	kind := strings.Split(strings.TrimPrefix(path, "/"), "/")[0]
	_, verbose := r.URL.Query()["verbose"]
	switch {
	case !healthy:
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", report.String(), kind)
	case verbose:
		fmt.Fprintf(w, "%s%s check passed\n", report.String(), kind)
	default:
		io.WriteString(w, "ok")
	}
}

// watch keeps the request open until the client goes; a shutdown waits for it, up to lingerFor.
func (s *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// proxyToKubelet asks the kubelet with the API server's kubelet client pair, read again for each new connection.
func (s *apiServer) proxyToKubelet(w http.ResponseWriter) {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, // as kubeadm's API server does: it is given no --kubelet-certificate-authority
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return pairFromDisk(s.flags.get("kubelet-client-certificate", ""), s.flags.get("kubelet-client-key", ""))
		},
	}}
	client := &http.Client{Timeout: 5 * time.Second, Transport: transport}
	response, err := client.Get("https://" + net.JoinHostPort(s.flags.get("advertise-address", ""), "10250") + "/healthz")
	if err != nil {
		fail(w, http.StatusServiceUnavailable, "ServiceUnavailable", "error trying to reach service: "+err.Error())
		return
	}
	defer response.Body.Close()
	w.WriteHeader(response.StatusCode)
	io.Copy(w, response.Body)
}

func selfSubjectReview(who user) map[string]any {
	info := map[string]any{"username": who.name, "groups": who.groups}
	if who.credential != "" {
		info["extra"] = map[string]any{"authentication.kubernetes.io/credential-id": []string{who.credential}}
	}
	return map[string]any{"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1",
		"metadata": map[string]any{"creationTimestamp": time.Now().UTC().Format(time.RFC3339)}, "status": map[string]any{"userInfo": info}}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, status int, reason, message string) {
	reply(w, status, map[string]any{"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Failure",
		"message": message, "reason": reason, "code": status})
}
