// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"path/filepath"
	"strings"
	"time"
)

const (
	kubeletClientSigner = "kubernetes.io/kube-apiserver-client-kubelet"
	requestsPath        = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
	signingDuration     = 365 * 24 * time.Hour
	backdate            = 5 * time.Minute
)

// signingRequest is what the API server and the signer of the controller manager read of a CertificateSigningRequest.
type signingRequest struct {
	Spec struct {
		SignerName        string `json:"signerName"`
		Request           []byte `json:"request"`
		Username          string `json:"username"`
		ExpirationSeconds int64  `json:"expirationSeconds"`
	} `json:"spec"`
}

// asked writes into a request who made it, as the API server does, and lets the controller manager's part happen a moment later.
func (s *apiServer) asked(item object, who user, key string) {
	spec, _ := item["spec"].(object)
	if spec == nil {
		return
	}
	spec["username"], spec["groups"] = who.name, who.groups
	delete(item, "status")
	time.AfterFunc(100*time.Millisecond, func() {
		if err := s.sign(key); err != nil {
			log.Printf("%s: %v", key, err)
		}
	})
}

// sign approves and signs what a node asks for itself; any other request waits for somebody to approve it, who never comes here.
func (s *apiServer) sign(key string) error {
	s.writes.Lock()
	defer s.writes.Unlock()
	found, err := s.etcd.scan(key, "")
	if err != nil || len(found) == 0 {
		return err
	}
	var request signingRequest
	if err := json.Unmarshal(found[0].Value, &request); err != nil {
		return err
	}
	block, _ := pem.Decode(request.Spec.Request)
	if block == nil {
		return fmt.Errorf("no PEM in the request")
	}
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	if err := asked.CheckSignature(); err != nil {
		return err
	}
	if request.Spec.SignerName != kubeletClientSigner || asked.Subject.CommonName != request.Spec.Username {
		return nil
	}
	certificate, err := s.certificateFor(asked, request.Spec.ExpirationSeconds)
	if err != nil {
		return err
	}
	item, err := decode(found[0])
	if err != nil {
		return err
	}
	delete(metadata(item), "resourceVersion")
	approved := object{"type": "Approved", "status": "True", "reason": "AutoApproved"}
	item["status"] = object{"conditions": []object{approved}, "certificate": certificate}
	data, err := json.Marshal(item)
	if err != nil {
		return err
	}
	return s.etcd.put(key, string(data))
}

func (s *apiServer) certificateFor(asked *x509.CertificateRequest, seconds int64) ([]byte, error) {
	caFile := s.flags.get("client-ca-file", "")
	ca, err := tls.LoadX509KeyPair(caFile, strings.TrimSuffix(caFile, filepath.Ext(caFile))+".key")
	if err != nil {
		return nil, err
	}
	issuer, err := x509.ParseCertificate(ca.Certificate[0])
	if err != nil {
		return nil, err
	}
	lifetime := signingDuration
	if wanted := time.Duration(seconds) * time.Second; seconds > 0 && wanted < lifetime {
		lifetime = wanted
	}
	now := time.Now()
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: asked.Subject, BasicConstraintsValid: true,
		NotBefore: now.Add(-backdate), NotAfter: now.Add(lifetime - backdate),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, asked.PublicKey, ca.PrivateKey)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
