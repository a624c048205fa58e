// Package segment does in software what a frame asks for and its destination cannot do: complete a
// checksum, cut a large TCP or UDP frame into frames that fit the wire.
//
// Check says whether a request can be honoured at all. The guest that made it is hostile, so Check runs
// once where the frame enters, before anybody relies on the request:
//
//	if err := segment.Check(f); err != nil {
//		drop(f)
//	}
//
// Where a frame leaves, a Segmenter makes what the destination takes of it. The frame itself, which may
// go to others too, is not changed and its payload is not copied:
//
//	frames, err := segmenter.Split(f, destination.Info().Offloads)
//
// The words are those of ports.Offload, which has them from the virtio-net header (OASIS virtio 1.2,
// 5.1.6).
package segment
