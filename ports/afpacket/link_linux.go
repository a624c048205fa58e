package afpacket

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// linkState is what the kernel says of an interface.
type linkState struct {
	index    int
	name     string
	hardware uint16 // ARPHRD_…
	mac      ports.MAC
	mtu      int
	up       bool // set up, and has carrier
	speed    uint64
	gone     bool // removed, or moved to another namespace
}

// linkSocket is a route netlink socket (rtnetlink(7)) that hears of changes of links.
type linkSocket struct {
	file *os.File
	raw  syscall.RawConn
	buf  []byte
}

func openLinkSocket() (*linkSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	l := &linkSocket{file: os.NewFile(uintptr(fd), "rtnetlink"), buf: make([]byte, 64<<10)}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		return nil, err
	}
	return l, nil
}

func (l *linkSocket) close() { l.file.Close() }

// find returns the state of the interface of that name, and unix.ENODEV when there is none.
func (l *linkSocket) find(name string) (linkState, error) {
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return linkState{}, unix.ENODEV
	}
	if err := l.ask(0, name); err != nil {
		return linkState{}, err
	}
	for {
		msgs, err := l.read()
		if err != nil {
			return linkState{}, err
		}
		for _, m := range msgs {
			if m.Header.Seq != askSeq { // an event
				continue
			}
			if s, ok := parseLink(&m); ok && !s.gone {
				s.speed = l.speed(name)
				return s, nil
			}
			return linkState{}, errorOf(&m)
		}
	}
}

// run calls changed after each change of the interface, until the socket is closed or the interface
// is gone.
func (l *linkSocket) run(index int, changed func(linkState)) {
	for {
		msgs, err := l.read()
		if errors.Is(err, unix.ENOBUFS) { // events were lost
			err = l.ask(index, "")
		}
		if err != nil {
			return
		}
		for _, m := range msgs {
			s, ok := parseLink(&m)
			if ok && s.index != index {
				continue
			}
			if !ok {
				if m.Header.Seq != askSeq || errorOf(&m) != unix.ENODEV {
					continue
				}
				s.gone = true
			}
			if s.up {
				s.speed = l.speed(s.name)
			}
			changed(s)
			if s.gone {
				return
			}
		}
	}
}

const askSeq = 1

// ask requests the state of an interface by index or, if that is 0, by name.
func (l *linkSocket) ask(index int, name string) error {
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg, 64)
	*(*unix.IfInfomsg)(unsafe.Pointer(&b[unix.SizeofNlMsghdr])) = unix.IfInfomsg{Index: int32(index)}
	if index == 0 {
		b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(name)+1))
		b = binary.NativeEndian.AppendUint16(b, unix.IFLA_IFNAME)
		b = append(append(b, name...), 0, 0, 0, 0)
		b = b[:len(b)&^3] // ends with a zero and is aligned
	}
	*(*unix.NlMsghdr)(unsafe.Pointer(&b[0])) = unix.NlMsghdr{
		Len:   uint32(len(b)),
		Type:  unix.RTM_GETLINK,
		Flags: unix.NLM_F_REQUEST,
		Seq:   askSeq,
	}
	_, err := l.file.Write(b)
	return err
}

func (l *linkSocket) read() ([]syscall.NetlinkMessage, error) {
	n, err := l.file.Read(l.buf)
	if err != nil {
		return nil, err
	}
	return syscall.ParseNetlinkMessage(l.buf[:n])
}

// errorOf returns the error that a message of type NLMSG_ERROR carries.
func errorOf(m *syscall.NetlinkMessage) error {
	if m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4 {
		if code := int32(binary.NativeEndian.Uint32(m.Data)); code < 0 {
			return unix.Errno(-code)
		}
	}
	return errors.New("unexpected answer from the kernel")
}

// parseLink reads a message that a link is there or has gone.
func parseLink(m *syscall.NetlinkMessage) (linkState, bool) {
	if len(m.Data) < unix.SizeofIfInfomsg ||
		(m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK) {
		return linkState{}, false
	}
	info := (*unix.IfInfomsg)(unsafe.Pointer(&m.Data[0]))
	if info.Family != unix.AF_UNSPEC { // such as that it has left a bridge
		return linkState{}, false
	}
	const upAndRunning = unix.IFF_UP | unix.IFF_RUNNING
	s := linkState{
		index:    int(info.Index),
		hardware: info.Type,
		gone:     m.Header.Type == unix.RTM_DELLINK,
	}
	s.up = !s.gone && info.Flags&upAndRunning == upAndRunning
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return linkState{}, false
	}
	for _, a := range attrs {
		switch {
		case a.Attr.Type == unix.IFLA_MTU && len(a.Value) == 4:
			s.mtu = int(binary.NativeEndian.Uint32(a.Value))
		case a.Attr.Type == unix.IFLA_ADDRESS && len(a.Value) == 6:
			s.mac = ports.MAC(a.Value)
		case a.Attr.Type == unix.IFLA_IFNAME:
			s.name = unix.ByteSliceToString(a.Value)
		}
	}
	return s, true
}
