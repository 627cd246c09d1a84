// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// hotPair is a certificate and key that follow their files, as the API server's dynamic serving content does: a pair that does
// not match is refused and the old one stays.
type hotPair struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
}

func newHotPair(certFile, keyFile string) (*hotPair, error) {
	p := &hotPair{certFile: certFile, keyFile: keyFile}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	p.current.Store(&pair)
	return p, nil
}

// watch loads the pair again whenever something has happened in its folders.
func (p *hotPair) watch() {
	notes, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
	if err != nil {
		log.Fatalf("inotify: %v (too many open files: sysctl -w fs.inotify.max_user_instances=1024)", err)
	}
	for _, file := range []string{p.certFile, p.keyFile} {
		if _, err := syscall.InotifyAddWatch(notes, filepath.Dir(file), syscall.IN_MOVED_TO|syscall.IN_CLOSE_WRITE); err != nil {
			log.Fatalf("watching the folder of %s: %v", file, err)
		}
	}
	buffer := make([]byte, 64<<10)
	for {
		pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
		if err == nil && !bytes.Equal(pair.Certificate[0], p.current.Load().Certificate[0]) {
			p.current.Store(&pair)
			log.Printf("loaded a new pair from %s", p.certFile)
		}
		if _, err := syscall.Read(notes, buffer); err != nil && err != syscall.EINTR {
			log.Fatalf("inotify: %v", err)
		}
	}
}

// pairFromDisk reads the files again for every handshake.
func pairFromDisk(certFile, keyFile string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

func loadPool(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("no certificate in %s", path)
	}
	return pool, nil
}

// selfSigned makes a serving certificate in memory, valid from an hour ago for a year, as the components do without files;
// it is signed by a CA of its own, which is thrown away.
func selfSigned(name string, lifetime time.Duration) (*tls.Certificate, error) {
	notBefore := time.Now().Add(-time.Hour)
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name + "-ca"},
		NotBefore: notBefore, NotAfter: notBefore.Add(lifetime), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano() + 1), Subject: pkix.Name{CommonName: name},
		NotBefore: notBefore, NotAfter: notBefore.Add(lifetime), BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func writePair(pair *tls.Certificate, certFile, keyFile string) error {
	der, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return err
	}
	var cert, key bytes.Buffer
	pem.Encode(&cert, &pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	pem.Encode(&key, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(keyFile, key.Bytes(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(certFile, cert.Bytes(), 0o644)
}
