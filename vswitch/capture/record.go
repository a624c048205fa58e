package capture

// A record is what is captured of one batch: a header of three words,
//
//	length of the record (32 bits), interface ID (32)
//	time stamp in nanoseconds
//	number of frames (8), direction (8), whether it is settled (8)
//
// and for each frame a word, see frameWord, and its bytes, filled up to whole words.
type record []byte

const (
	word         = 8
	recordHeader = 3 * word
)

// frameSize is the room that n bytes of a frame take in a record.
func frameSize(n int) int { return (word + n + word - 1) &^ (word - 1) }

func (r record) init(size int, id uint32, stamp int64, direction uint8, frames int) {
	le.PutUint64(r, uint64(size)|uint64(id)<<32)
	le.PutUint64(r[word:], uint64(stamp))
	le.PutUint64(r[2*word:], uint64(frames)|uint64(direction)<<8)
}

func (r record) size() int        { return int(le.Uint32(r)) }
func (r record) id() uint32       { return le.Uint32(r[4:]) }
func (r record) stamp() uint64    { return le.Uint64(r[word:]) }
func (r record) frames() int      { return int(r[2*word]) }
func (r record) direction() uint8 { return r[2*word+1] }
func (r record) settled() bool    { return r[2*word+2] != 0 }
func (r record) settle()          { r[2*word+2] = 1 }

// frameWord describes a frame of a record: captured length (20 bits), original length (20), place in the
// batch (8) and why it was dropped (16).
type frameWord uint64

// Numbers of reasons. Those of the reasons that have a comment are between.
const (
	alive  = 0      // not dropped
	unkept = 0xffff // what became of the frame is not what the filter wants
)

const maxFrameLen = 1<<20 - 1 // more than ports.MaxFrame

func makeFrameWord(captured, original, place int) frameWord {
	return frameWord(captured) | frameWord(original)<<20 | frameWord(place)<<40
}

func (w frameWord) captured() int  { return int(w & maxFrameLen) }
func (w frameWord) original() int  { return int(w >> 20 & maxFrameLen) }
func (w frameWord) place() int     { return int(w >> 40 & 0xff) }
func (w frameWord) reason() uint16 { return uint16(w >> 48) }

func (w frameWord) withReason(reason uint16) frameWord {
	return w&(1<<48-1) | frameWord(reason)<<48
}
