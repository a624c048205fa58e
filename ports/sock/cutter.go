package sock

import (
	"encoding/binary"
	"fmt"

	"github.com/hvswitch/hvswitch/ports"
)

const (
	lengthLen = 4 // of the length in front of each frame

	// maxLength is the greatest length that QEMU takes or sends (NET_BUFSIZE): a guest can make
	// it send any up to that, so they are no reason to disconnect.
	maxLength = 4096 + 65536
)

// cutter finds frames in a stream, in which each follows its length: 4 bytes in network byte order,
// net_stream_data_receive of QEMU.
type cutter struct {
	skip  int // bytes still to come of a frame that is too long
	count Stats
}

// cut returns the first frame in b that can be passed on, with its length in front, and what follows
// it. Without a whole frame in b it returns nil and what must be in front of the bytes that come next.
// After an error nothing can be found in the stream any more.
func (c *cutter) cut(b []byte) (frame, rest []byte, err error) {
	for {
		k := min(c.skip, len(b))
		b, c.skip = b[k:], c.skip-k
		if len(b) < lengthLen {
			return nil, b, nil
		}
		n := binary.BigEndian.Uint32(b)
		switch end := lengthLen + int64(n); {
		case n > maxLength:
			c.count.Violations++
			return nil, nil, fmt.Errorf("the peer sent a frame of length %d, more than %d", n, maxLength)
		case n > ports.MaxFrame:
			c.count.TooLong++
			c.skip = int(n)
			b = b[lengthLen:]
		case end > int64(len(b)):
			return nil, b, nil
		case n < etherLen:
			c.count.Runts++
			b = b[end:]
		default:
			return b[:end:end], b[end:], nil
		}
	}
}
