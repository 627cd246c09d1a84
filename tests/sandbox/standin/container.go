// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// runContainer makes the calling process a container as far as the collection can see one: an own mount namespace (the kubelet gave
// it), an own root with the component's program, and the pod's hostPath mounts, directories as directories and files as files.
func runContainer(flags flagSet) error {
	var c container
	if len(flags[""]) != 1 {
		return fmt.Errorf("one argument is needed: the container as JSON")
	}
	if err := json.Unmarshal([]byte(flags[""][0]), &c); err != nil {
		return err
	}
	io.Copy(io.Discard, os.Stdin) // until the kubelet has finished with us
	root := "/run/containers/" + c.Name
	program := "/usr/local/bin/" + filepath.Base(c.Argv[0])
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("rootfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting a root: %w", err)
	}
	self := mount{Host: "/opt/sandbox/bin/standin", Path: program, ReadOnly: true, Create: "File"}
	for _, m := range append(c.Mounts, self) {
		if err := m.bind(root); err != nil {
			return err
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := syscall.Chroot("."); err != nil {
		return err
	}
	environment := []string{"PATH=/usr/local/bin", "SANDBOX_FAULTS=" + os.Getenv("SANDBOX_CONTAINER_FAULTS")}
	return syscall.Exec(program, c.Argv, environment)
}

func (m mount) bind(root string) error {
	if strings.HasSuffix(m.Create, "OrCreate") {
		if err := create(m.Host, m.Create == "DirectoryOrCreate"); err != nil {
			return err
		}
	}
	info, err := os.Stat(m.Host)
	if err != nil {
		return err
	}
	target := filepath.Join(root, m.Path)
	if err := create(target, info.IsDir()); err != nil {
		return err
	}
	if err := syscall.Mount(m.Host, target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", m.Host, err)
	}
	if !m.ReadOnly {
		return nil
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(target, &fs); err != nil {
		return err
	}
	keep := uintptr(fs.Flags) & (syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC) // these cannot be taken away in a user namespace
	if err := syscall.Mount("", target, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY|keep, ""); err != nil {
		return fmt.Errorf("making %s read-only: %w", m.Path, err)
	}
	return nil
}

func create(path string, directory bool) error {
	if directory {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err == nil {
		err = file.Close()
	}
	return err
}

// showCgroup lets /proc/PID/cgroup tell that a process belongs to this cgroup, as far as everybody on the node can see. Real control groups
// would need rights that an ordinary user does not have.
func showCgroup(pid int, cgroup string) error {
	file := fmt.Sprintf("/run/cgroup-%d", pid)
	if err := os.WriteFile(file, []byte("0::"+cgroup+"\n"), 0o444); err != nil {
		return err
	}
	defer os.Remove(file) // the mount keeps the content
	if err := syscall.Mount(file, fmt.Sprintf("/proc/%d/cgroup", pid), "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("showing its cgroup: %w", err)
	}
	return nil
}
