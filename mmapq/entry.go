package mmapq

import "encoding/binary"

// An entry describes one frame. Entries grow down from the end of the segment: entry i lies at size-16*(i+1). Little-endian:
//
//	0   4   offset of the frame in the segment
//	4   4   checksum (frame.go)
//	8   2   flags
//	10  2   reserved: upper 16 bits of the due time in the deferred stream, else 0
//	12  4   aux: lower 32 bits of the due time in the deferred stream; elsewhere place in the optional extent (flag has-aux), else 0
const entrySize = 16

// Entry flags.
const (
	flagDead       = 1 << 0 // resolved without a message; a reader passes it by
	flagBatchFirst = 1 << 1
	flagBatchLast  = 1 << 2
	flagHasAux     = 1 << 3
	flagForeignID  = 1 << 4
)

type entry struct {
	offset   uint32
	sum      uint32
	flags    uint16
	reserved uint16
	aux      uint32
}

func putEntry(dst []byte, e entry) {
	binary.LittleEndian.PutUint64(dst, uint64(e.offset)|uint64(e.sum)<<32)
	binary.LittleEndian.PutUint64(dst[8:], uint64(e.flags)|uint64(e.reserved)<<16|uint64(e.aux)<<32)
}

// putSum changes the checksum alone.
func putSum(dst []byte, sum uint32) { binary.LittleEndian.PutUint32(dst[4:], sum) }

func getEntry(src []byte) entry {
	a, b := binary.LittleEndian.Uint64(src), binary.LittleEndian.Uint64(src[8:])
	return entry{offset: uint32(a), sum: uint32(a >> 32), flags: uint16(b), reserved: uint16(b >> 16), aux: uint32(b >> 32)}
}

// due is the due time of an entry of the deferred stream, ms since 1970 (48 bits).
func (e entry) due() int64 { return int64(e.reserved)<<32 | int64(e.aux) }

func dueEntry(ms int64) entry { return entry{reserved: uint16(ms >> 32), aux: uint32(ms)} }
