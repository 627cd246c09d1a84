// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const controlSocket = "/run/sandbox-init.sock"

var kubeletArgv = []string{"/usr/bin/kubelet", "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
	"--kubeconfig=/etc/kubernetes/kubelet.conf", "--config=/var/lib/kubelet/config.yaml",
	"--container-runtime-endpoint=unix:///run/containerd/containerd.sock"}

// initSystem is the node's first process: it reaps what nobody waits for and runs the kubelet, as systemd would.
type initSystem struct {
	mu   sync.Mutex
	pid  int
	want bool
	gone *sync.Cond
}

// runInit needs the node's name and its address: sandbox-init NAME ADDRESS.
func runInit(flags flagSet) error {
	words := flags[""]
	if len(words) != 2 {
		return fmt.Errorf("needs a host name and an IPv4 address")
	}
	if err := syscall.Sethostname([]byte(words[0])); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if err := addAddresses(net.ParseIP(words[1]).To4()); err != nil {
		return fmt.Errorf("setting up the loopback interface: %w", err)
	}
	s := &initSystem{want: true}
	s.gone = sync.NewCond(&s.mu)
	os.Remove(controlSocket)
	listener, err := net.Listen("unix", controlSocket)
	if err != nil {
		return err
	}
	go s.keepKubelet()
	go s.answer(listener)
	for {
		pid, err := syscall.Wait4(-1, nil, 0, nil)
		if err == syscall.ECHILD {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		if pid == s.pid {
			s.pid = 0
			s.gone.Broadcast()
		}
		s.mu.Unlock()
	}
}

func (s *initSystem) keepKubelet() {
	output, err := os.OpenFile("/var/log/kubelet.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	for {
		s.mu.Lock()
		if s.want && s.pid == 0 {
			pid, err := syscall.ForkExec("/opt/sandbox/bin/kubelet", kubeletArgv, &syscall.ProcAttr{
				Dir: "/", Env: []string{"PATH=/opt/sandbox/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
				Files: []uintptr{0, output.Fd(), output.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true}})
			if err != nil {
				log.Printf("starting the kubelet: %v", err)
			} else {
				s.pid = pid
				if err := showCgroup(pid, "/system.slice/kubelet.service"); err != nil {
					log.Print(err)
				}
			}
		}
		s.mu.Unlock()
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *initSystem) answer(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		line, _ := bufio.NewReader(connection).ReadString('\n')
		fmt.Fprintln(connection, s.do(strings.TrimSpace(line)))
		connection.Close()
	}
}

func (s *initSystem) do(verb string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch verb {
	case "is-active":
		if s.pid != 0 {
			return "active"
		}
		return "inactive"
	case "show":
		return fmt.Sprintf("MainPID=%d", s.pid)
	case "start":
		s.want = true
	case "stop", "restart":
		s.want = false
		if s.pid != 0 {
			syscall.Kill(s.pid, syscall.SIGTERM)
		}
		for s.pid != 0 {
			s.gone.Wait()
		}
		s.want = verb == "restart"
	default:
		return "unknown verb " + verb
	}
	return "ok"
}

// runSystemctl knows start, stop, restart, is-active and show (the main PID), for the one unit kubelet.
func runSystemctl(flags flagSet) error {
	words := []string{}
	for i := 0; i < len(flags[""]); i++ { // "-p MainPID", "--no-block" and the like make no difference here
		switch word := flags[""][i]; {
		case word == "-p":
			i++
		case !strings.HasPrefix(word, "-"):
			words = append(words, word)
		}
	}
	if len(words) != 2 || strings.TrimSuffix(words[1], ".service") != "kubelet" {
		return fmt.Errorf("only the unit kubelet is known here, not %q", words)
	}
	connection, err := net.Dial("unix", controlSocket)
	if err != nil {
		return err
	}
	defer connection.Close()
	fmt.Fprintln(connection, words[0])
	answer, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return err
	}
	switch answer = strings.TrimSpace(answer); {
	case answer == "ok":
	case strings.HasPrefix(answer, "unknown"):
		return fmt.Errorf("%s", answer)
	default:
		fmt.Println(answer)
	}
	if answer == "inactive" {
		os.Exit(3)
	}
	return nil
}

// addAddresses brings the loopback interface up and gives it the node's address too.
func addAddresses(address net.IP) error {
	if address == nil {
		return fmt.Errorf("not an IPv4 address")
	}
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(socket)
	up := interfaceRequest{}
	copy(up.name[:], "lo")
	*(*uint16)(unsafe.Pointer(&up.data[0])) = syscall.IFF_UP | syscall.IFF_RUNNING
	if err := up.call(socket, syscall.SIOCSIFFLAGS); err != nil {
		return err
	}
	for _, step := range []struct {
		call uintptr
		ip   []byte
	}{{syscall.SIOCSIFADDR, address}, {syscall.SIOCSIFNETMASK, []byte{255, 255, 255, 255}}} {
		request := interfaceRequest{}
		copy(request.name[:], "lo:1")
		*(*uint16)(unsafe.Pointer(&request.data[0])) = syscall.AF_INET
		copy(request.data[4:], step.ip)
		if err := request.call(socket, step.call); err != nil {
			return err
		}
	}
	return nil
}

type interfaceRequest struct {
	name [16]byte
	data [24]byte
}

func (r *interfaceRequest) call(socket int, request uintptr) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(socket), request, uintptr(unsafe.Pointer(r))); errno != 0 {
		return errno
	}
	return nil
}
