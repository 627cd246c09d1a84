// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// frontProxy is a folder with the values of the ConfigMap by which a cluster says who may name users to its
// extension API servers. It is read for each request, as the API server changes it when its own files change.
type frontProxy string

// caller is a user, and the certificate of whom we believe that.
type caller struct {
	user   string
	groups []string
	proxy  *x509.Certificate
}

func (c caller) object() object {
	fingerprint := sha256.Sum256(c.proxy.Raw)
	return object{
		"kind":       "Caller",
		"apiVersion": group + "/" + version,
		"metadata":   object{"name": "you"},
		"user":       c.user,
		"groups":     c.groups,
		"frontProxy": object{
			"commonName":        c.proxy.Subject.CommonName,
			"fingerprintSHA256": hex.EncodeToString(fingerprint[:]),
			"notAfter":          c.proxy.NotAfter.UTC().Format(time.RFC3339),
		},
	}
}

// only answers 401 to whoever is not the front proxy.
func (f frontProxy) only(next func(http.ResponseWriter, *http.Request, caller)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := f.caller(r, time.Now())
		if err != nil {
			refuse(w, http.StatusUnauthorized, "Unauthorized", err.Error())
			return
		}
		next(w, r, who)
	}
}

func (f frontProxy) caller(r *http.Request, now time.Time) (caller, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return caller{}, errors.New("no client certificate was shown")
	}
	leaf, others := r.TLS.PeerCertificates[0], x509.NewCertPool()
	for _, other := range r.TLS.PeerCertificates[1:] {
		others.AddCert(other)
	}
	bundle, err := os.ReadFile(filepath.Join(string(f), "requestheader-client-ca-file"))
	if err != nil {
		return caller{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: others, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return caller{}, err
	}
	// An empty list allows every name, as in kube-apiserver.
	allowed, err := f.list("requestheader-allowed-names")
	if err != nil {
		return caller{}, err
	}
	if len(allowed) > 0 && !slices.Contains(allowed, leaf.Subject.CommonName) {
		return caller{}, fmt.Errorf("%q is not allowed to name users", leaf.Subject.CommonName)
	}
	users, err := f.values(r, "requestheader-username-headers")
	if err != nil {
		return caller{}, err
	}
	if len(users) == 0 {
		return caller{}, errors.New("no user is named")
	}
	groups, err := f.values(r, "requestheader-group-headers")
	return caller{user: users[0], groups: groups, proxy: leaf}, err
}

// values are those of the request's headers whose names a file lists.
func (f frontProxy) values(r *http.Request, file string) ([]string, error) {
	names, err := f.list(file)
	var found []string
	for _, name := range names {
		found = append(found, r.Header.Values(name)...)
	}
	return found, err
}

// list is what a file has as a JSON list.
func (f frontProxy) list(file string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(string(f), file))
	if err != nil {
		return nil, err
	}
	var found []string
	if err := json.Unmarshal(data, &found); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return found, nil
}
