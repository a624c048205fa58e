package sock

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// fromConn makes a device of a copy of somebody else's descriptor.
func fromConn(conn syscall.Conn, c *Config, l *link) (device, error) {
	fd, err := duplicate(conn)
	if err != nil {
		return nil, err
	}
	kind, err := connectedType(fd)
	switch {
	case err != nil:
	case kind == unix.SOCK_STREAM:
		return adoptStream(fd, c, l)
	case kind == unix.SOCK_DGRAM:
		return adoptDgram(fd, c, l)
	default:
		err = errors.New("neither a stream nor a datagram socket")
	}
	unix.Close(fd)
	return nil, err
}

func duplicate(conn syscall.Conn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var errDup error
	err = raw.Control(func(old uintptr) {
		fd, errDup = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err == nil {
		err = os.NewSyscallError("dup", errDup)
	}
	return fd, err
}

// connectedType returns the type of a socket that has a peer.
func connectedType(fd int) (int, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return 0, os.NewSyscallError("getsockopt", err)
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return 0, os.NewSyscallError("getsockopt", err)
	}
	if kind == unix.SOCK_DGRAM && domain != unix.AF_UNIX {
		return 0, errors.New("a datagram socket that is not of the unix family")
	}
	if _, err := unix.Getpeername(fd); err != nil {
		return 0, os.NewSyscallError("getpeername", err)
	}
	return kind, nil
}

func adoptStream(fd int, c *Config, l *link) (device, error) {
	s, err := newStream(c, l)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s.rx.final = true
	s.mu.Lock()
	err = s.attach(fd)
	s.mu.Unlock()
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func adoptDgram(fd int, c *Config, l *link) (device, error) {
	d, err := newDgram(fd, true, c, l)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	d.mu.Lock()
	err = d.attach()
	d.mu.Unlock()
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}
