// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Stand-ins for the components of a control plane: one program under many names.
//
// The name it is started by (the base name of argv[0]) says which part it plays. What each part does is what a kubeadm
// node's real component does where the collection depends on it, and nothing more; README.md lists it.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var roles = map[string]func(flags flagSet) error{
	"etcd":                    runEtcd,
	"kube-apiserver":          runAPIServer,
	"kube-controller-manager": func(f flagSet) error { return runLeader(f, controllerManager) },
	"kube-scheduler":          func(f flagSet) error { return runLeader(f, scheduler) },
	"kubelet":                 runKubelet,
	"sandbox-init":            runInit,
	"sandbox-container":       runContainer,
	"sandbox-wait":            runWait,
	"systemctl":               runSystemctl,
}

func main() {
	name := filepath.Base(os.Args[0])
	log.SetPrefix(name + ": ")
	log.SetFlags(log.Ldate | log.Ltime | log.Lmicroseconds | log.LUTC | log.Lmsgprefix)
	run, known := roles[name]
	if !known {
		log.Fatalf("unknown name %q", name)
	}
	if fault("refuse") {
		time.Sleep(200 * time.Millisecond)
		log.Fatal("refusing to start, as the test asked")
	}
	if err := run(parseFlags(os.Args[1:])); err != nil {
		log.Fatal(err)
	}
}

// fault tells whether the test asked this process to misbehave; the kubelet passes it on in the environment.
func fault(name string) bool {
	for _, f := range strings.Split(os.Getenv("SANDBOX_FAULTS"), ",") {
		if f == name {
			return true
		}
	}
	return false
}

// flagSet holds --name=value arguments (the last one wins) and, under "", the words that are not flags.
type flagSet map[string][]string

func parseFlags(args []string) flagSet {
	flags := flagSet{}
	for _, arg := range args {
		if !strings.HasPrefix(arg, "--") {
			flags[""] = append(flags[""], arg)
			continue
		}
		name, value, found := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !found {
			value = "true"
		}
		flags[name] = append(flags[name], value)
	}
	return flags
}

func (f flagSet) get(name, fallback string) string {
	if values := f[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return fallback
}

func (f flagSet) need(names ...string) error {
	for _, name := range names {
		if f.get(name, "") == "" {
			return fmt.Errorf("flag --%s is missing", name)
		}
	}
	return nil
}
