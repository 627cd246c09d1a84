// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// aggregated is an extension API server with one resource, which tells who asks: the user that the
// aggregator (kube-apiserver) names, and the client certificate that the aggregator itself showed. It
// also is a webhook that admits everything, and one that converts by renaming.
package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"time"
)

const (
	group    = "aggregated.certops.example"
	version  = "v1"
	resource = "callers"
)

type object = map[string]any

func main() {
	listen := flag.String("listen", ":8443", "`ADDRESS` to serve HTTPS on")
	cert := flag.String("cert", "/serving/tls.crt", "serving certificate `FILE`, read anew for each connection")
	key := flag.String("key", "/serving/tls.key", "its key's `FILE`")
	front := flag.String("front-proxy", "/front-proxy", "`FOLDER` with the values of the ConfigMap kube-system/extension-apiserver-authentication")
	flag.Parse()
	server := &http.Server{
		Addr:              *listen,
		Handler:           routes(frontProxy(*front)),
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{
			// Verified for each request: whoever shows none, or another one, gets an answer that says so.
			ClientAuth: tls.RequestClientCert,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				pair, err := tls.LoadX509KeyPair(*cert, *key)
				return &pair, err
			},
		},
	}
	log.Fatal(server.ListenAndServeTLS("", ""))
}

func routes(front frontProxy) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	mux.HandleFunc("POST /admit", admit)
	mux.HandleFunc("POST /convert", convert)
	for path, answer := range discovery() {
		mux.HandleFunc("GET "+path, front.only(func(w http.ResponseWriter, _ *http.Request, _ caller) { send(w, http.StatusOK, answer) }))
	}
	mux.HandleFunc("GET /apis/"+group+"/"+version+"/"+resource, front.only(func(w http.ResponseWriter, _ *http.Request, who caller) {
		send(w, http.StatusOK, object{
			"kind":       "CallerList",
			"apiVersion": group + "/" + version,
			"metadata":   object{"resourceVersion": "1"},
			"items":      []object{who.object()},
		})
	}))
	mux.HandleFunc("/", front.only(func(w http.ResponseWriter, _ *http.Request, _ caller) {
		refuse(w, http.StatusNotFound, "NotFound", "there is nothing here")
	}))
	return mux
}

// discovery is what each path of it answers.
func discovery() map[string]object {
	one := object{"groupVersion": group + "/" + version, "version": version}
	about := object{"name": group, "versions": []object{one}, "preferredVersion": one}
	whole := object{"kind": "APIGroup", "apiVersion": "v1"}
	for field, value := range about {
		whole[field] = value
	}
	return map[string]object{
		"/apis":          {"kind": "APIGroupList", "apiVersion": "v1", "groups": []object{about}},
		"/apis/" + group: whole,
		"/apis/" + group + "/" + version: {
			"kind":         "APIResourceList",
			"apiVersion":   "v1",
			"groupVersion": group + "/" + version,
			"resources": []object{{
				"name": resource, "singularName": "caller", "namespaced": false, "kind": "Caller", "verbs": []string{"list"},
			}},
		},
	}
}

func send(w http.ResponseWriter, status int, answer object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

func refuse(w http.ResponseWriter, status int, reason, message string) {
	send(w, status, object{
		"kind": "Status", "apiVersion": "v1", "metadata": object{}, "status": "Failure",
		"reason": reason, "message": message, "code": status,
	})
}
