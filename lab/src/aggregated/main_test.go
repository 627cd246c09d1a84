// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func made(t *testing.T, name string, usage x509.ExtKeyUsage, left time.Duration, by *pair) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(left),
		BasicConstraintsValid: true, IsCA: by == nil, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	if by == nil {
		by = &pair{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pair{cert, key}
}

func asked(front frontProxy, user string, shown ...pair) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/apis/"+group+"/"+version+"/"+resource, nil)
	r.TLS = &tls.ConnectionState{}
	for _, one := range shown {
		r.TLS.PeerCertificates = append(r.TLS.PeerCertificates, one.cert)
	}
	if user != "" {
		r.Header.Set("X-Remote-User", user)
	}
	w := httptest.NewRecorder()
	routes(front).ServeHTTP(w, r)
	return w
}

func TestOnlyTheFrontProxyIsBelieved(t *testing.T) {
	client := x509.ExtKeyUsageClientAuth
	ca, other := made(t, "ca", client, time.Hour, nil), made(t, "ca", client, time.Hour, nil)
	folder := t.TempDir()
	for name, text := range map[string]string{
		"requestheader-client-ca-file":   string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})),
		"requestheader-allowed-names":    `["front-proxy-client"]`,
		"requestheader-username-headers": `["X-Remote-User"]`,
		"requestheader-group-headers":    `["X-Remote-Group"]`,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const name = "front-proxy-client"
	front := frontProxy(folder)
	for what, c := range map[string]struct {
		user   string
		shown  []pair
		status int
	}{
		"the front proxy":   {"me", []pair{made(t, name, client, time.Hour, &ca)}, http.StatusOK},
		"nobody":            {"me", nil, http.StatusUnauthorized},
		"of another CA":     {"me", []pair{made(t, name, client, time.Hour, &other)}, http.StatusUnauthorized},
		"of another name":   {"me", []pair{made(t, "somebody", client, time.Hour, &ca)}, http.StatusUnauthorized},
		"for servers":       {"me", []pair{made(t, name, x509.ExtKeyUsageServerAuth, time.Hour, &ca)}, http.StatusUnauthorized},
		"expired":           {"me", []pair{made(t, name, client, -time.Minute, &ca)}, http.StatusUnauthorized},
		"who names no user": {"", []pair{made(t, name, client, time.Hour, &ca)}, http.StatusUnauthorized},
	} {
		if got := asked(front, c.user, c.shown...); got.Code != c.status {
			t.Errorf("%s: %d, expected %d: %s", what, got.Code, c.status, got.Body)
		}
	}
	if said := asked(front, "me", made(t, name, client, time.Hour, &ca)).Body.String(); !strings.Contains(said, `"user":"me"`) {
		t.Error(said)
	}
}

func TestConversionChangesTheVersion(t *testing.T) {
	w := httptest.NewRecorder()
	review := `{"kind": "ConversionReview", "request": {"uid": "1", "desiredAPIVersion": "g/v2", "objects": [{"apiVersion": "g/v1", "spec": 7}]}}`
	routes("").ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/convert", strings.NewReader(review)))
	var said struct {
		Response struct {
			UID              string
			ConvertedObjects []struct {
				APIVersion string
				Spec       int
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil {
		t.Fatal(err)
	}
	if got := said.Response; got.UID != "1" || len(got.ConvertedObjects) != 1 || got.ConvertedObjects[0].APIVersion != "g/v2" || got.ConvertedObjects[0].Spec != 7 {
		t.Error(w.Body)
	}
}

func TestNoReviewIsABadRequest(t *testing.T) {
	w := httptest.NewRecorder()
	routes("").ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/admit", strings.NewReader("[]")))
	if w.Code != http.StatusBadRequest {
		t.Error(w.Code, w.Body)
	}
}
