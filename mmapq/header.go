package mmapq

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// The first page of a segment file. Two copies of the same 256 bytes lie in different sectors (offset 0 and 2048), each good by itself.
// Little-endian:
//
//	0    8   magic "NSQLOOPS"
//	8    2   format version
//	10   2   node id
//	12   1   stream
//	13   3   zero
//	16   4   incompatible feature bits: an unknown one refuses the file
//	20   4   compatible feature bits
//	24   8   topic incarnation
//	32   8   segment number within the log, ascending
//	40   8   base position
//	48   8   base ordinal: how many entries the log had before this segment (dense, unlike positions)
//	56   8   salt, new for every life of the file
//	64   8   term (0; for replication)
//	72   8   size of the file
//	80   4   checksum of bytes 0..79
//	96   16  durable-up-to: entries known to be synced, and its check word
//	112  16  seal: number of entries plus 1, and its check word; 0 while open
//	128  32  smallest and largest timestamp at seal, each with its check word
//	160  32  compacted segments: length of the range of positions, and checksum of their table (compact.go), each with its check word
//
// The identity (0..83) is written once, when the segment is activated; the words behind it change alone, each guarded by a check word, so no
// store of theirs can damage the identity.
const (
	headerSize     = 4096
	headerCopy     = 2048
	headerIdentity = 80
	offDurable     = 96
	offSeal        = 112
	offMinTime     = 128
	offMaxTime     = 144
	offSpan        = 160
	offTableSum    = 176

	featureCompacted = 1 << 0 // a segment whose entries have a table of positions
)

var segmentMagic = [8]byte{'N', 'S', 'Q', 'L', 'O', 'O', 'P', 'S'}

var errNoHeader = errors.New("no valid segment header")

type header struct {
	node    uint16
	stream  Stream
	topicID uint64
	seq     uint64
	base    Pos
	baseOrd uint64
	salt    uint64
	size    uint64
	feature uint32 // incompatible feature bits
}

// putHeader writes both copies and clears the words that change.
func putHeader(mem []byte, h header) {
	clear(mem[:headerSize])
	var b [headerIdentity + 4]byte
	copy(b[:], segmentMagic[:])
	le := binary.LittleEndian
	le.PutUint16(b[8:], formatVersion)
	le.PutUint16(b[10:], h.node)
	b[12] = byte(h.stream)
	le.PutUint32(b[16:], h.feature)
	le.PutUint64(b[24:], h.topicID)
	le.PutUint64(b[32:], h.seq)
	le.PutUint64(b[40:], uint64(h.base))
	le.PutUint64(b[48:], h.baseOrd)
	le.PutUint64(b[56:], h.salt)
	le.PutUint64(b[72:], h.size)
	le.PutUint32(b[headerIdentity:], crc32.Checksum(b[:headerIdentity], castagnoli))
	copy(mem, b[:])
	copy(mem[headerCopy:], b[:])
}

// getHeader reads the first good copy.
func getHeader(mem []byte) (header, error) {
	for _, at := range [2]int{0, headerCopy} {
		b := mem[at : at+headerIdentity+4]
		le := binary.LittleEndian
		if [8]byte(b) != segmentMagic || crc32.Checksum(b[:headerIdentity], castagnoli) != le.Uint32(b[headerIdentity:]) {
			continue
		}
		if err := checkFormat(le.Uint16(b[8:]), le.Uint32(b[16:]), segmentFeatures); err != nil {
			return header{}, err
		}
		return header{
			node: le.Uint16(b[10:]), stream: Stream(b[12]), topicID: le.Uint64(b[24:]), seq: le.Uint64(b[32:]),
			base: Pos(le.Uint64(b[40:])), baseOrd: le.Uint64(b[48:]), salt: le.Uint64(b[56:]), size: le.Uint64(b[72:]),
			feature: le.Uint32(b[16:]),
		}, nil
	}
	return header{}, errNoHeader
}

const checkMix = 0xa5a5c3c35a5a3c3c

// storeChecked writes a word and its check word into both copies; loadChecked reads the first copy whose check word agrees.
func storeChecked(mem []byte, off int, v, salt uint64) {
	for _, at := range [2]int{0, headerCopy} {
		storeWord(mem, at+off, v)
		storeWord(mem, at+off+8, v^salt^checkMix)
	}
}

func loadChecked(mem []byte, off int, salt uint64) (uint64, bool) {
	for _, at := range [2]int{0, headerCopy} {
		v := loadWord(mem, at+off)
		if loadWord(mem, at+off+8) == v^salt^checkMix {
			return v, true
		}
	}
	return 0, false
}
