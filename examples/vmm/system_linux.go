package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports/afpacket"
)

// dieWithUs makes a program end when this process does, whatever ends it, but not by an interrupt at the terminal.
func dieWithUs(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// cpuTime returns the processor time that this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuTimeOf returns that of a process of ours (proc(5), /proc/pid/stat).
func cpuTimeOf(pid int) time.Duration {
	const tick = time.Second / 100 // USER_HZ
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// Behind the name, which is in parentheses and may have spaces, utime and stime are the fields 11 and 12.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick
}

// openTAP makes a TAP for QEMU, which gets its descriptor, and a port on the interface of the kernel that is its other
// end. The interface is in a network namespace of its own, where nobody else sees it, and gone with the last descriptor.
func openTAP(string, string) (*cable, error) {
	c := &cable{args: []string{"-netdev", "tap,id=net,fd=3,vhost=off"}}
	err := inNewNetwork(func() error {
		tap, err := os.OpenFile("/dev/net/tun", os.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		c.files = []*os.File{tap}
		if err := bringUp(tap, "tap0"); err != nil {
			return fmt.Errorf("make TAP: %w", err)
		}
		c.port, err = afpacket.Open("tap0", nil)
		return err
	})
	if err != nil {
		c.closeFiles()
		return nil, err
	}
	return c, nil
}

// bringUp makes a TAP of that name of the file and sets it up.
func bringUp(tap *os.File, name string) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(int(tap.Fd()), unix.TUNSETIFF, req); err != nil {
		return err
	}
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(control)
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(control, unix.SIOCSIFFLAGS, req)
}

// inNewNetwork runs f in a network namespace without a name; what f opens stays there.
func inNewNetwork(f func() error) error {
	// The thread has to come back: with its end, programs that it started would end (dieWithUs).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	// The kernel is to say nothing by itself.
	err = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = f()
	}
	return errors.Join(err, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET))
}
