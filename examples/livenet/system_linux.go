package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// mayMakeNetworks says what stands in the way of network namespaces and TAPs.
func mayMakeNetworks() error {
	err := onThread(func() error { return unix.Unshare(unix.CLONE_NEWNET) })
	if err != nil {
		return fmt.Errorf("the right to make network namespaces, run it as root (%w)", err)
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("TAP devices, modprobe tun (%w)", err)
	}
	return nil
}

// inNamespace runs f on a thread in the network namespace of that name; what f opens stays there.
func inNamespace(name string, f func() error) error {
	return onThread(func() error {
		ns, err := os.Open("/run/netns/" + name)
		if err != nil {
			return err
		}
		err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err := errors.Join(err, ns.Close()); err != nil {
			return fmt.Errorf("enter network namespace %q: %w", name, err)
		}
		return f()
	})
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// ownGroup keeps the interrupt of a terminal from a program: livenet ends it.
func ownGroup(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
