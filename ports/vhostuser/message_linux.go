package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// request is the type of a message from the front-end (vhost-user, "Front-end message types").
type request uint32

const (
	reqGetFeatures         request = 1
	reqSetFeatures         request = 2
	reqSetOwner            request = 3
	reqResetOwner          request = 4
	reqSetMemTable         request = 5
	reqSetLogBase          request = 6
	reqSetLogFD            request = 7
	reqSetVringNum         request = 8
	reqSetVringAddr        request = 9
	reqSetVringBase        request = 10
	reqGetVringBase        request = 11
	reqSetVringKick        request = 12
	reqSetVringCall        request = 13
	reqSetVringErr         request = 14
	reqGetProtocolFeatures request = 15
	reqSetProtocolFeatures request = 16
	reqGetQueueNum         request = 17
	reqSetVringEnable      request = 18
	reqSendRARP            request = 19
	reqNetSetMTU           request = 20
	reqSetBackendReqFD     request = 21
	reqGetConfig           request = 24
	reqSetConfig           request = 25
	reqGetInflightFD       request = 31
	reqSetInflightFD       request = 32
	reqResetDevice         request = 34
	reqGetMaxMemSlots      request = 36
	reqAddMemReg           request = 37
	reqRemMemReg           request = 38
)

// backConfigChange is a message on the back-end channel: the configuration has changed.
const backConfigChange request = 2

const (
	headerLen = 12

	// maxPayload is more than any message has; the longest is GET_CONFIG with 256 bytes of it.
	maxPayload = 512

	// maxFDs is the most descriptors a message carries: those of SET_MEM_TABLE.
	maxFDs = maxTable

	flagVersion   = 1
	maskVersion   = 3
	flagReply     = 1 << 2
	flagNeedReply = 1 << 3
)

var (
	errVersion = errors.New("message is not of protocol version 1")
	errLong    = fmt.Errorf("message is longer than %d bytes", maxPayload)
	errFDs     = fmt.Errorf("message with more than %d descriptors", maxFDs)
	errPayload = errors.New("payload has the wrong length")
	errNoFD    = errors.New("message has the wrong number of descriptors")
)

// message is one message from the front-end.
type message struct {
	request request
	flags   uint32
	payload []byte
	fds     []int
}

// takeFD returns the only descriptor of the message, which becomes the caller's.
func (m *message) takeFD() (int, error) {
	if len(m.fds) != 1 {
		return -1, errNoFD
	}
	fd := m.fds[0]
	m.fds = nil
	return fd, nil
}

// close closes the descriptors that nobody took.
func (m *message) close() {
	for _, fd := range m.fds {
		unix.Close(fd)
	}
	m.fds = nil
}

func (m *message) u32(at int) uint32 { return binary.LittleEndian.Uint32(m.payload[at:]) }
func (m *message) u64(at int) uint64 { return binary.LittleEndian.Uint64(m.payload[at:]) }

// region decodes the region description at a place of the payload.
func (m *message) region(at int) regionSpec {
	return regionSpec{guest: m.u64(at), size: m.u64(at + 8), user: m.u64(at + 16), offset: m.u64(at + 24)}
}

// channel is the socket on which messages come.
type channel struct {
	conn *net.UnixConn
	buf  [headerLen + maxPayload]byte
	oob  [64]byte // room for maxFDs: a header of 16 bytes, then 4 for each
}

// read reads the next message, whose payload is valid until the next call. Close the message after
// use, and after an error too.
func (c *channel) read(m *message) error {
	*m = message{}
	if err := c.fill(m, c.buf[:headerLen]); err != nil {
		return err
	}
	m.request = request(binary.LittleEndian.Uint32(c.buf[0:]))
	m.flags = binary.LittleEndian.Uint32(c.buf[4:])
	size := binary.LittleEndian.Uint32(c.buf[8:])
	switch {
	case m.flags&maskVersion != flagVersion:
		return errVersion
	case size > maxPayload:
		return errLong
	}
	m.payload = c.buf[headerLen : headerLen+size]
	err := c.fill(m, m.payload)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// fill reads until b is full, and collects descriptors.
func (c *channel) fill(m *message, b []byte) error {
	for done := 0; done < len(b); {
		n, oobn, flags, _, err := c.conn.ReadMsgUnix(b[done:], c.oob[:])
		if oobn > 0 {
			m.collect(c.oob[:oobn])
		}
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case flags&unix.MSG_CTRUNC != 0 || len(m.fds) > maxFDs:
			return errFDs
		case n == 0 && done == 0:
			return io.EOF
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		done += n
	}
	return nil
}

// collect takes the descriptors out of control messages.
func (m *message) collect(oob []byte) {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return // the kernel makes no such
	}
	for _, c := range all {
		if fds, err := unix.ParseUnixRights(&c); err == nil {
			m.fds = append(m.fds, fds...)
		}
	}
}

// reply answers m with a payload and, unless it is negative, a descriptor. The descriptors of m that nobody took are
// closed before, so that the front-end finds them released.
func (c *channel) reply(m *message, payload []byte, fd int) error {
	m.close()
	b := appendHeader(make([]byte, 0, headerLen+len(payload)), m.request, flagReply, len(payload))
	b = append(b, payload...)
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	_, _, err := c.conn.WriteMsgUnix(b, oob, nil)
	return err
}

func (c *channel) replyU64(m *message, v uint64) error {
	return c.reply(m, binary.LittleEndian.AppendUint64(nil, v), -1)
}

func appendHeader(b []byte, r request, flags uint32, size int) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(r))
	b = binary.LittleEndian.AppendUint32(b, flagVersion|flags)
	return binary.LittleEndian.AppendUint32(b, uint32(size))
}
