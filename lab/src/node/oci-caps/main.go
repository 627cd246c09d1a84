// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// oci-caps is an OCI runtime wrapper for hosts that withhold capabilities.
//
// Container managers ask for capabilities, rlimits and OOM scores that a
// process without (for example) CAP_SYS_RESOURCE may not grant, and runc then
// refuses to start the container. The wrapper lowers such requests in the
// bundle's config.json ("create", "run") or in the process file ("exec") to
// what this process may grant, and then becomes runc.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const runc = "/usr/sbin/runc"

// Capability names in the order of their numbers (linux/capability.h).
var capNames = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID
KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST
NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE
SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD
LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM
BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

// Names of resource limits in the order of their numbers (asm-generic/resource.h).
var rlimitNames = strings.Fields(`CPU FSIZE DATA STACK CORE RSS NPROC NOFILE
MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME`)

func main() {
	args := os.Args[1:]
	switch {
	case slices.Contains(args, "exec"):
		if p := flag(args, "--process", "-p"); p != "" {
			rewrite(p, func(process map[string]any) { lower(process) })
		}
	case slices.Contains(args, "create"), slices.Contains(args, "run"):
		bundle := flag(args, "--bundle", "-b")
		rewrite(filepath.Join(bundle, "config.json"), func(config map[string]any) {
			if process, ok := config["process"].(map[string]any); ok {
				lower(process)
			}
		})
	}
	fail(syscall.Exec(runc, append([]string{"runc"}, args...), os.Environ()))
}

// lower takes out of an OCI process whatever this process cannot grant.
func lower(process map[string]any) {
	bounding := boundingSet()
	if sets, ok := process["capabilities"].(map[string]any); ok {
		for name, set := range sets {
			if list, ok := set.([]any); ok {
				sets[name] = slices.DeleteFunc(list, func(c any) bool { return !bounding[fmt.Sprint(c)] })
			}
		}
	}
	if bounding["CAP_SYS_RESOURCE"] {
		return
	}
	if limits, ok := process["rlimits"].([]any); ok {
		for _, limit := range limits {
			if limit, ok := limit.(map[string]any); ok {
				clamp(limit)
			}
		}
	}
	if score, ok := process["oomScoreAdj"].(json.Number); ok && strings.HasPrefix(score.String(), "-") {
		process["oomScoreAdj"] = 0
	}
}

// clamp lowers an OCI rlimit to the hard limit of this process.
func clamp(limit map[string]any) {
	resource := slices.Index(rlimitNames, strings.TrimPrefix(fmt.Sprint(limit["type"]), "RLIMIT_"))
	var own syscall.Rlimit
	if resource < 0 || syscall.Getrlimit(resource, &own) != nil {
		return
	}
	for _, key := range []string{"hard", "soft"} {
		if n, err := strconv.ParseUint(fmt.Sprint(limit[key]), 10, 64); err == nil {
			limit[key] = min(n, own.Max)
		}
	}
}

func boundingSet() map[string]bool {
	status, err := os.ReadFile("/proc/self/status")
	fail(err)
	set := map[string]bool{}
	for line := range strings.Lines(string(status)) {
		if hex, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			mask, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			fail(err)
			for i, name := range capNames {
				set["CAP_"+name] = mask>>i&1 == 1
			}
		}
	}
	return set
}

// flag returns the value of a command-line flag given as "-f v" or "-f=v".
func flag(args []string, names ...string) string {
	for i, arg := range args {
		name, value, joined := strings.Cut(arg, "=")
		switch {
		case !slices.Contains(names, name):
		case joined:
			return value
		case i+1 < len(args):
			return args[i+1]
		}
	}
	return ""
}

func rewrite(path string, edit func(map[string]any)) {
	data, err := os.ReadFile(path)
	fail(err)
	doc := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	fail(dec.Decode(&doc))
	edit(doc)
	data, err = json.Marshal(doc)
	fail(err)
	fail(os.WriteFile(path, data, 0o600))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "oci-caps:", err)
		os.Exit(1)
	}
}
