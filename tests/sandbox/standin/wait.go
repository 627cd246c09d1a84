// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// runWait waits until everything on the node works: sandbox-wait ADDRESS SECONDS. With --kubelet-only it asks the kubelet alone, for a
// node whose certificates have expired.
func runWait(flags flagSet) error {
	words := flags[""]
	if len(words) != 2 {
		return fmt.Errorf("needs the node's address and a number of seconds")
	}
	seconds, err := strconv.Atoi(words[1])
	if err != nil {
		return err
	}
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	for {
		err := everythingWorks(words[0], flags.get("kubelet-only", "") != "")
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not ready after %d s: %w; see /var/log/kubelet.log and %s in the sandbox", seconds, err, podLogs)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func everythingWorks(address string, kubeletOnly bool) error {
	urls := []string{"http://127.0.0.1:10248/healthz"}
	if !kubeletOnly {
		urls = append(urls, "http://127.0.0.1:2381/readyz", "https://"+address+":6443/readyz", "https://127.0.0.1:10257/healthz",
			"https://127.0.0.1:10259/healthz")
	}
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, url := range urls {
		response, err := client.Get(url)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, response.Status)
		}
	}
	if kubeletOnly {
		return nil
	}
	api, err := clientFromKubeconfig("/etc/kubernetes/admin.conf")
	if err != nil {
		return err
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		lease, _, err := api.object(http.MethodGet, leasePath+name, nil)
		if err != nil {
			return err
		}
		spec, _ := lease["spec"].(object)
		if !strings.Contains(text(spec, "holderIdentity"), "_") {
			return fmt.Errorf("%s has no leader", name)
		}
	}
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	if _, _, err := api.object(http.MethodGet, nodeLeases+"/"+hostname, nil); err != nil {
		return err
	}
	return nil
}
