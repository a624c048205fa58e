//go:build unix

package portstest

import (
	"time"

	"golang.org/x/sys/unix"
)

// readable waits until one of the descriptors is readable, for d at most.
func readable(d time.Duration, fds ...int) bool {
	poll := make([]unix.PollFd, len(fds))
	for i, fd := range fds {
		poll[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	for end := time.Now().Add(d); ; {
		ms := (time.Until(end) + time.Millisecond - 1) / time.Millisecond
		n, err := unix.Poll(poll, int(max(ms, 0)))
		if n > 0 {
			return true
		}
		if err != unix.EINTR {
			return false
		}
	}
}
