package qos

const (
	// overhead is what a frame without its FCS takes of a wire beside its own bytes: preamble and
	// start delimiter 8, FCS 4, interpacket gap 12 (IEEE 802.3, 3.1.1 and 4.4.2).
	overhead = 24

	// minFrame is the shortest frame without its FCS (IEEE 802.3, 4.4.2).
	minFrame = 60
)

// WireBytes returns what a frame of n bytes without FCS takes of an Ethernet wire, in bytes: padding,
// preamble, FCS and interpacket gap included. Given as size to Scheduler.Enqueue, it makes a rate of
// 1 Gbit/s what a link of 1 Gbit/s carries, whatever the length of frames.
//
// A frame that is to be cut into segments, each with headers bytes of headers and at most segment bytes of
// payload, takes what they do together. segment is 0 for any other frame.
func WireBytes(n, headers, segment int) int {
	if payload := n - headers; segment > 0 && payload > segment {
		whole, rest := payload/segment, payload%segment
		total := whole * (max(headers+segment, minFrame) + overhead)
		if rest > 0 {
			total += max(headers+rest, minFrame) + overhead
		}
		return total
	}
	return max(n, minFrame) + overhead
}
