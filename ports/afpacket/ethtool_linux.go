package afpacket

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Structures of linux/ethtool.h.
type (
	ethtoolCmd struct {
		cmd                    uint32
		supported, advertising uint32
		speed                  uint16 // Mbit/s, lower half
		duplex, port           uint8
		phy, transceiver       uint8
		autoneg, mdio          uint8
		maxTx, maxRx           uint32
		speedHigh              uint16
		tpMdix, tpMdixCtrl     uint8
		lpAdvertising          uint32
		reserved               [2]uint32
	}

	ethtoolValue struct {
		cmd, data uint32
	}

	ifreqData struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}
)

const ethFlagLRO = 1 << 15 // ETH_FLAG_LRO

// ethtool fills in request, which begins with its command.
func (l *linkSocket) ethtool(name string, request unsafe.Pointer) error {
	r := ifreqData{data: request}
	copy(r.name[:unix.IFNAMSIZ-1], name)
	var errno unix.Errno
	err := l.raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}

// speed returns the speed of the interface in bit/s, 0 when it is not known.
func (l *linkSocket) speed(name string) uint64 {
	const unknown = 1<<32 - 1 // SPEED_UNKNOWN
	c := ethtoolCmd{cmd: unix.ETHTOOL_GSET}
	if l.ethtool(name, unsafe.Pointer(&c)) != nil {
		return 0
	}
	mbit := uint64(c.speedHigh)<<16 | uint64(c.speed)
	if mbit == unknown {
		return 0
	}
	return mbit * 1e6
}

// disableLRO turns large receive offload off where it is on. It leaves frames that say neither how
// they were merged nor what their checksums are.
func (l *linkSocket) disableLRO(name string) {
	v := ethtoolValue{cmd: unix.ETHTOOL_GFLAGS}
	if l.ethtool(name, unsafe.Pointer(&v)) == nil && v.data&ethFlagLRO != 0 {
		v.cmd = unix.ETHTOOL_SFLAGS
		v.data &^= ethFlagLRO
		_ = l.ethtool(name, unsafe.Pointer(&v)) // without it, such frames are counted as malformed
	}
}
