// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// leaderKind is what the controller-manager and the scheduler do differently.
type leaderKind struct {
	lease         string
	releaseOnExit bool // the scheduler gives its lease back on SIGTERM, the controller-manager does not
}

var (
	controllerManager = leaderKind{"kube-controller-manager", false}
	scheduler         = leaderKind{"kube-scheduler", true}
)

const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
	microTime     = "2006-01-02T15:04:05.000000Z"
)

// runLeader reads its kubeconfig once, serves a self-signed certificate on its secure port and holds its lease.
func runLeader(flags flagSet, kind leaderKind) error {
	if err := flags.need("kubeconfig"); err != nil {
		return err
	}
	api, err := clientFromKubeconfig(flags.get("kubeconfig", ""))
	if err != nil {
		return err
	}
	if err := serveHealth(flags, kind); err != nil {
		return err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go holdWatch(api)
	e := &elector{api: api, kind: kind, identity: hostname + "_" + uuid()}
	lost := make(chan error, 1)
	go func() { lost <- e.run() }()
	select {
	case err := <-lost:
		return err
	case s := <-stop:
		log.Printf("received %s", s)
		if kind.releaseOnExit {
			e.release()
		}
		return nil
	}
}

func serveHealth(flags flagSet, kind leaderKind) error {
	certificate, err := selfSigned(fmt.Sprintf("%s@%d", "localhost", time.Now().Unix()), 365*24*time.Hour)
	if err != nil {
		return err
	}
	port := map[string]string{"kube-controller-manager": "10257", "kube-scheduler": "10259"}[kind.lease]
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	}
	listener, err := tls.Listen("tcp", flags.get("bind-address", "0.0.0.0")+":"+flags.get("secure-port", port),
		&tls.Config{Certificates: []tls.Certificate{*certificate}, ClientAuth: tls.RequestClientCert})
	if err != nil {
		return err
	}
	go http.Serve(listener, mux)
	return nil
}

// elector does what client-go's leader election does. A lease that was seen to change is valid for its duration from then on, by
// the own clock; an empty holder may be replaced at once.
type elector struct {
	api      *apiClient
	kind     leaderKind
	identity string
	seen     string    // the record as last seen
	seenAt   time.Time // and when it was first seen like that
}

func (e *elector) run() error {
	var renewed time.Time // zero: not the leader
	for {
		err := e.tryAcquireOrRenew()
		switch {
		case err == nil && renewed.IsZero():
			log.Printf("successfully acquired lease kube-system/%s as %s", e.kind.lease, e.identity)
			fallthrough
		case err == nil:
			renewed = time.Now()
		case renewed.IsZero():
			log.Printf("attempting to acquire leader lease: %v", err)
		case time.Since(renewed) > renewDeadline:
			return fmt.Errorf("leaderelection lost: %w", err)
		default:
			log.Printf("error retrieving or updating the lease: %v", err)
		}
		time.Sleep(retryPeriod)
	}
}

func (e *elector) tryAcquireOrRenew() error {
	lease, status, err := e.api.object(http.MethodGet, leasePath+e.kind.lease, nil)
	now := time.Now()
	if status == http.StatusNotFound {
		spec := object{"holderIdentity": e.identity, "leaseDurationSeconds": 15, "acquireTime": now.UTC().Format(microTime),
			"renewTime": now.UTC().Format(microTime), "leaseTransitions": 0}
		_, _, err = e.api.object(http.MethodPost, leasePath, object{"kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
			"metadata": object{"name": e.kind.lease, "namespace": "kube-system"}, "spec": spec})
		return err
	}
	if err != nil {
		return err
	}
	spec, _ := lease["spec"].(object)
	if spec == nil {
		return errors.New("the lease has no spec")
	}
	holder, _ := spec["holderIdentity"].(string)
	if record := fmt.Sprint(spec); record != e.seen {
		e.seen, e.seenAt = record, now
	}
	if holder != "" && holder != e.identity && now.Before(e.seenAt.Add(leaseDuration)) {
		return fmt.Errorf("lease is held by %s and has not yet expired", holder)
	}
	if holder != e.identity {
		spec["acquireTime"] = now.UTC().Format(microTime)
		transitions, _ := spec["leaseTransitions"].(float64)
		spec["leaseTransitions"] = transitions + 1
	}
	spec["holderIdentity"], spec["renewTime"], spec["leaseDurationSeconds"] = e.identity, now.UTC().Format(microTime), 15
	_, _, err = e.api.object(http.MethodPut, leasePath+e.kind.lease, lease)
	return err
}

func (e *elector) release() {
	lease, _, err := e.api.object(http.MethodGet, leasePath+e.kind.lease, nil)
	if err != nil {
		return
	}
	spec, _ := lease["spec"].(object)
	if spec == nil || spec["holderIdentity"] != e.identity {
		return
	}
	spec["holderIdentity"], spec["leaseDurationSeconds"] = "", 1
	if _, _, err := e.api.object(http.MethodPut, leasePath+e.kind.lease, lease); err == nil {
		log.Print("released the lease")
	}
}

// holdWatch keeps a watch open, as informers do: it is what an API server waits for when it is told to stop.
func holdWatch(api *apiClient) {
	for {
		if response, err := api.http.Get(api.server + "/api/v1/namespaces?watch=1"); err == nil {
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		time.Sleep(time.Second)
	}
}

// apiClient speaks to the API server with the credentials that a kubeconfig embeds, read once.
type apiClient struct {
	server string
	http   *http.Client
}

func clientFromKubeconfig(path string) (*apiClient, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	conf, err := parseYAML(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	context := entry(conf, "contexts", text(conf, "current-context"), "context")
	cluster := entry(conf, "clusters", text(context, "cluster"), "cluster")
	credentials := entry(conf, "users", text(context, "user"), "user")
	certificate, err := embeddedOrFile(credentials, "client-certificate")
	if err != nil {
		return nil, err
	}
	key, err := embeddedOrFile(credentials, "client-key")
	if err != nil {
		return nil, err
	}
	authority, err := embeddedOrFile(cluster, "certificate-authority")
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool}}
	return &apiClient{text(cluster, "server"), &http.Client{Transport: transport}}, nil
}

func embeddedOrFile(values object, name string) ([]byte, error) {
	if data := text(values, name+"-data"); data != "" {
		return base64.StdEncoding.DecodeString(data)
	}
	return os.ReadFile(text(values, name))
}

// object asks for one object; anything but a 2xx answer is an error, and the status tells which.
func (c *apiClient) object(method, path string, send object) (object, int, error) {
	var content io.Reader
	if send != nil {
		data, err := json.Marshal(send)
		if err != nil {
			return nil, 0, err
		}
		content = bytes.NewReader(data)
	}
	request, err := http.NewRequest(method, c.server+path, content)
	if err != nil {
		return nil, 0, err
	}
	client := *c.http
	client.Timeout = 5 * time.Second
	response, err := client.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	answer := object{}
	err = json.NewDecoder(response.Body).Decode(&answer)
	if response.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %v", method, path, response.Status, answer["message"])
	}
	return answer, response.StatusCode, err
}

func uuid() string {
	b := make([]byte, 16)
	rand.Read(b)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
