//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// readerGone waits until nobody reads the fifo any more: without frames, no write would tell. It
// returns false where the system does not tell.
func readerGone(fifo *os.File) (gone bool) {
	raw, err := fifo.SyscallConn()
	if err != nil {
		return false
	}
	raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}} // no events, but errors are reported always
		for err = unix.EINTR; err == unix.EINTR; {
			_, err = unix.Poll(fds, -1)
		}
		gone = err == nil
	})
	return gone
}
