package sock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// newSocket makes a unix socket that does not block.
func newSocket(kind int) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	return fd, nil
}

// socketFile is the file of a socket of ours.
type socketFile struct {
	path string
	stat unix.Stat_t
}

// bind gives the socket its path. A file that a socket left there when its process died is replaced.
func bind(fd int, path string) (*socketFile, error) {
	err := unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	if err == unix.EADDRINUSE && path[0] != '@' {
		if err = removeStale(path); err != nil {
			return nil, err
		}
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	f := &socketFile{path: path}
	if path[0] == '@' {
		return f, nil
	}
	if err := unix.Lstat(path, &f.stat); err != nil {
		return nil, os.NewSyscallError("lstat", err)
	}
	return f, nil
}

// removeStale removes a socket file that no socket belongs to.
func removeStale(path string) error {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil // by now
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("there is a file that is no socket: %w", unix.EADDRINUSE)
	}
	// A socket of a type that none of ours has is not connected, only told whether there is one.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err {
	case unix.ECONNREFUSED:
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	case unix.ENOENT:
		return nil
	case nil, unix.EPROTOTYPE, unix.EAGAIN:
		return fmt.Errorf("somebody has the socket open: %w", unix.EADDRINUSE)
	default:
		return fmt.Errorf("look whether the socket is in use: %w", err)
	}
}

// remove removes the file, unless another one is at its place.
func (f *socketFile) remove() {
	var now unix.Stat_t
	if f.path[0] == '@' || unix.Lstat(f.path, &now) != nil || now.Dev != f.stat.Dev || now.Ino != f.stat.Ino {
		return
	}
	_ = unix.Unlink(f.path)
}

// setSendBuffer sets the length of the send buffer as far as we may.
func setSendBuffer(fd, n int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, n) == nil {
		return nil
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, n))
}
