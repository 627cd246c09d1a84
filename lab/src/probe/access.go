// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// access is where the API server is and how to be believed by it.
type access struct {
	server string
	tls    *tls.Config
	token  string
}

// kubeconfig has the fields of client-go's Config that the probe needs.
type kubeconfig struct {
	CurrentContext string `yaml:"current-context"`
	Contexts       []struct {
		Name    string
		Context struct{ Cluster, User string }
	}
	Clusters []struct {
		Name    string
		Cluster struct {
			Server string
			CAData string `yaml:"certificate-authority-data"`
			CA     string `yaml:"certificate-authority"`
		}
	}
	Users []struct {
		Name string
		User struct {
			CertData string `yaml:"client-certificate-data"`
			KeyData  string `yaml:"client-key-data"`
			Cert     string `yaml:"client-certificate"`
			Key      string `yaml:"client-key"`
			Token    string
		}
	}
}

func loadAccess(o options) (access, error) {
	a := access{tls: &tls.Config{ServerName: o.serverName}}
	var ca, cert, key []byte
	var err error
	if o.kubeconfig != "" {
		if ca, cert, key, err = a.readKubeconfig(o.kubeconfig); err != nil {
			return a, fmt.Errorf("%s: %w", o.kubeconfig, err)
		}
	}
	for _, f := range []struct {
		path string
		data *[]byte
	}{{o.ca, &ca}, {o.cert, &cert}, {o.key, &key}} {
		if f.path == "" {
			continue
		}
		if *f.data, err = os.ReadFile(f.path); err != nil {
			return a, err
		}
	}
	if len(ca) == 0 {
		return a, errors.New("no CA certificate: give --kubeconfig or --ca")
	}
	a.tls.RootCAs = x509.NewCertPool()
	if !a.tls.RootCAs.AppendCertsFromPEM(ca) {
		return a, errors.New("the CA certificate is not PEM")
	}
	if len(cert) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return a, err
		}
		a.tls.Certificates = []tls.Certificate{pair}
	}
	return a, nil
}

// readKubeconfig fills server and token from the current context, and returns CA, client certificate and key (PEM).
func (a *access) readKubeconfig(path string) (ca, cert, key []byte, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, nil, err
	}
	var k kubeconfig
	if err := yaml.Unmarshal(data, &k); err != nil {
		return nil, nil, nil, err
	}
	for _, c := range k.Contexts {
		if c.Name != k.CurrentContext {
			continue
		}
		for _, cluster := range k.Clusters {
			if cluster.Name == c.Context.Cluster {
				a.server = cluster.Cluster.Server
				if ca, err = material(path, cluster.Cluster.CAData, cluster.Cluster.CA); err != nil {
					return nil, nil, nil, err
				}
			}
		}
		for _, user := range k.Users {
			if user.Name == c.Context.User {
				a.token = user.User.Token
				if cert, err = material(path, user.User.CertData, user.User.Cert); err != nil {
					return nil, nil, nil, err
				}
				if key, err = material(path, user.User.KeyData, user.User.Key); err != nil {
					return nil, nil, nil, err
				}
			}
		}
		return ca, cert, key, nil
	}
	return nil, nil, nil, fmt.Errorf("no context %q", k.CurrentContext)
}

// material is what a kubeconfig gives in base64, or as a path relative to itself.
func material(kubeconfig, data, path string) ([]byte, error) {
	if data != "" {
		return base64.StdEncoding.DecodeString(data)
	}
	if path == "" {
		return nil, nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(kubeconfig), path)
	}
	return os.ReadFile(path)
}
