package tap

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// threadNS is the network namespace of the calling thread.
const threadNS = "/proc/thread-self/ns/net"

// namespace identifies a network namespace.
type namespace struct{ dev, ino uint64 }

func namespaceOf(fd int) (namespace, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return namespace{uint64(st.Dev), st.Ino}, err
}

// namespaceOfTAP opens the namespace that the interface is in, which may not be ours: it can have
// been moved, or its descriptor handed to us. Without the right to ask, or before Linux 5.7, it is taken
// to be ours.
func namespaceOfTAP(tap int) (fd int, err error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(tap), unix.TUNGETDEVNETNS, 0)
	if errno == 0 {
		return int(r), nil
	}
	return unix.Open(threadNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// socketIn makes a socket in the namespace ns.
func socketIn(ns, domain, typ, proto int) (fd int, err error) {
	home, err := unix.Open(threadNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", threadNS, err)
	}
	defer unix.Close(home)
	there, err1 := namespaceOf(ns)
	here, err2 := namespaceOf(home)
	if err := errors.Join(err1, err2); err != nil {
		return -1, fmt.Errorf("compare network namespaces: %w", err)
	}
	if here == there {
		return unix.Socket(domain, typ, proto)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if fd, err = -1, unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter network namespace: %w", err)
			runtime.UnlockOSThread()
			return
		}
		fd, err = unix.Socket(domain, typ, proto)
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		} // else the thread, which is in the wrong namespace, ends with this goroutine
	}()
	<-done
	return fd, err
}
