// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// store is etcd's keys and values, kept in one file of the data directory.
type store struct {
	mu       sync.Mutex
	path     string
	Revision int64             `json:"revision"`
	Values   map[string]string `json:"values"`
	Changed  map[string]int64  `json:"changed"` // key → revision of its last change
}

func openStore(dir string) (*store, error) {
	s := &store{path: filepath.Join(dir, "sandbox.json"), Revision: 1}
	data, err := os.ReadFile(s.path)
	if err == nil {
		err = json.Unmarshal(data, s)
	}
	if os.IsNotExist(err) {
		err = nil
	}
	if s.Values == nil {
		s.Values = map[string]string{}
	}
	if s.Changed == nil {
		s.Changed = map[string]int64{}
	}
	return s, err
}

func (s *store) put(key, value string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Revision++
	s.Values[key], s.Changed[key] = value, s.Revision
	return s.Revision, s.keep()
}

func (s *store) remove(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Revision++
	delete(s.Values, key)
	delete(s.Changed, key)
	return s.keep()
}

func (s *store) keep() error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	temporary := s.path + ".tmp"
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, s.path)
}

func (s *store) revision() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strconv.FormatInt(s.Revision, 10)
}

type keyValue struct {
	Key         []byte `json:"key"`
	Value       []byte `json:"value"`
	ModRevision string `json:"mod_revision"`
}

func (s *store) scan(key, end string) []keyValue {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []keyValue{}
	for k, v := range s.Values {
		if k == key || (end != "" && k >= key && k < end) {
			found = append(found, keyValue{[]byte(k), []byte(v), strconv.FormatInt(s.Changed[k], 10)})
		}
	}
	return found
}

const etcdMember = "10276657743932975437"

func runEtcd(flags flagSet) error {
	if err := flags.need("cert-file", "key-file", "trusted-ca-file", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file",
		"data-dir", "listen-client-urls", "listen-peer-urls"); err != nil {
		return err
	}
	data, err := openStore(flags.get("data-dir", ""))
	if err != nil {
		return err
	}
	client, err := etcdTLS(flags, "")
	if err != nil {
		return err
	}
	peer, err := etcdTLS(flags, "peer-")
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	failed := make(chan error, 8)
	gateway := etcdGateway(data, flags)
	health := etcdHealth()
	serve := func(urls string, conf *tls.Config, handler http.Handler) error {
		for _, raw := range strings.Split(urls, ",") {
			u, err := url.Parse(raw)
			if err != nil {
				return err
			}
			listener, err := net.Listen("tcp", u.Host)
			if err != nil {
				return err
			}
			if u.Scheme == "https" {
				listener = tls.NewListener(listener, conf)
			}
			go func() { failed <- (&http.Server{Handler: handler, ErrorLog: log.Default()}).Serve(listener) }()
		}
		return nil
	}
	if err := serve(flags.get("listen-client-urls", ""), client, gateway); err != nil {
		return err
	}
	if err := serve(flags.get("listen-peer-urls", ""), peer, health); err != nil {
		return err
	}
	if urls := flags.get("listen-metrics-urls", ""); urls != "" {
		if err := serve(urls, client, health); err != nil {
			return err
		}
	}
	log.Print("ready to serve client requests")
	select {
	case err := <-failed:
		return err
	case s := <-stop:
		log.Printf("received %s, going down", s)
		return nil
	}
}

// etcdTLS reads its own pair from disk at each handshake, and the CAs it trusts only once.
func etcdTLS(flags flagSet, prefix string) (*tls.Config, error) {
	pool, err := loadPool(flags.get(prefix+"trusted-ca-file", ""))
	if err != nil {
		return nil, err
	}
	certFile, keyFile := flags.get(prefix+"cert-file", ""), flags.get(prefix+"key-file", "")
	if _, err := pairFromDisk(certFile, keyFile); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs:  pool,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return pairFromDisk(certFile, keyFile)
		},
	}, nil
}

func etcdHealth() *http.ServeMux {
	mux := http.NewServeMux()
	for _, path := range []string{"/livez", "/readyz"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	}
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"health":"true","reason":""}`))
	})
	return mux
}

func etcdGateway(data *store, flags flagSet) http.Handler {
	mux := etcdHealth()
	header := func() map[string]any {
		return map[string]any{"cluster_id": "14841639068965178418", "member_id": etcdMember,
			"revision": data.revision(), "raft_term": "2"}
	}
	post := func(path string, answer func(body map[string]any) (any, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
				return
			}
			body := map[string]any{}
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			result, err := answer(body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(result)
		})
	}
	post("/v3/cluster/member/list", func(map[string]any) (any, error) {
		return map[string]any{"header": header(), "members": []any{map[string]any{
			"ID": etcdMember, "name": flags.get("name", "default"),
			"peerURLs":   strings.Split(flags.get("initial-advertise-peer-urls", ""), ","),
			"clientURLs": strings.Split(flags.get("advertise-client-urls", ""), ","),
		}}}, nil
	})
	post("/v3/maintenance/status", func(map[string]any) (any, error) {
		index := data.revision()
		return map[string]any{"header": header(), "version": "3.6.8", "storageVersion": "3.6.0", "dbSize": "20480", "dbSizeInUse": "16384",
			"leader": etcdMember, "raftIndex": index, "raftTerm": "2", "raftAppliedIndex": index}, nil
	})
	post("/v3/kv/range", func(body map[string]any) (any, error) {
		found := data.scan(unbase64(body["key"]), unbase64(body["range_end"]))
		return map[string]any{"header": header(), "kvs": found, "count": strconv.Itoa(len(found))}, nil
	})
	post("/v3/kv/put", func(body map[string]any) (any, error) {
		_, err := data.put(unbase64(body["key"]), unbase64(body["value"]))
		return map[string]any{"header": header()}, err
	})
	post("/v3/kv/deleterange", func(body map[string]any) (any, error) {
		return map[string]any{"header": header()}, data.remove(unbase64(body["key"]))
	})
	return mux
}

func unbase64(value any) string {
	text, _ := value.(string)
	data, _ := base64.StdEncoding.DecodeString(text)
	return string(data)
}

// etcdClient is the API server's way to etcd: the client pair is read again for each new connection, the CA only once.
type etcdClient struct {
	url  string
	http *http.Client
}

func newEtcdClient(flags flagSet) (*etcdClient, error) {
	pool, err := loadPool(flags.get("etcd-cafile", ""))
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{RootCAs: pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return pairFromDisk(flags.get("etcd-certfile", ""), flags.get("etcd-keyfile", ""))
	}}
	server, _, _ := strings.Cut(flags.get("etcd-servers", ""), ",")
	return &etcdClient{server, &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: conf}}}, nil
}

// scan returns the keys from key up to end (one key if end is empty).
func (c *etcdClient) scan(key, end string) ([]keyValue, error) {
	var answer struct {
		Kvs []keyValue `json:"kvs"`
	}
	err := c.post("/v3/kv/range", map[string]any{"key": []byte(key), "range_end": []byte(end)}, &answer)
	return answer.Kvs, err
}

func (c *etcdClient) put(key, value string) error {
	return c.post("/v3/kv/put", map[string]any{"key": []byte(key), "value": []byte(value)}, &struct{}{})
}

func (c *etcdClient) remove(key string) error {
	return c.post("/v3/kv/deleterange", map[string]any{"key": []byte(key)}, &struct{}{})
}

func (c *etcdClient) post(path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	response, err := c.http.Post(c.url+path, "application/json", bytes.NewReader(data))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd answered %s", response.Status)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}
