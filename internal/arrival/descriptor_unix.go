//go:build unix

package arrival

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// descriptor is the file descriptor of a queue, and a pipe by which its waiter is woken.
type descriptor struct {
	fd   int
	pipe [2]int
}

func newDescriptor(fd int) (*descriptor, error) {
	d := &descriptor{fd: fd}
	if err := unix.Pipe(d.pipe[:]); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	for _, end := range d.pipe {
		unix.CloseOnExec(end)
		if err := unix.SetNonblock(end, true); err != nil {
			d.close()
			return nil, fmt.Errorf("pipe: %w", err)
		}
	}
	return d, nil
}

func (d *descriptor) wait() {
	fds := [2]unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}, {Fd: int32(d.pipe[0]), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds[:], -1) // interrupted: for no reason
	if fds[1].Revents != 0 {
		var b [16]byte
		_, _ = unix.Read(d.pipe[0], b[:])
	}
}

func (d *descriptor) wake() { _, _ = unix.Write(d.pipe[1], []byte{1}) } // a full pipe wakes too

func (d *descriptor) close() {
	_ = unix.Close(d.pipe[0])
	_ = unix.Close(d.pipe[1])
}
