package mmapq

import (
	"encoding/binary"
	"hash/crc32"
)

// A frame is the message frame of the V2 protocol, byte for byte what goes to a consumer on its first delivery:
//
//	0   4   size of all that follows, big-endian
//	4   4   frame type 2, big-endian
//	8   8   timestamp, ns since 1970, big-endian
//	16  2   attempts, 1, big-endian
//	18  16  message id, lower-case hex
//	34      body
const (
	FrameHeader     = 34
	frameAttempts   = 16
	frameID         = 18
	frameTypeNumber = 2
)

// putFrameHeader writes the 34 bytes before a body.
func putFrameHeader(dst []byte, bodyLen int, ts int64, id uint64) {
	_ = dst[FrameHeader-1]
	binary.BigEndian.PutUint32(dst, uint32(FrameHeader-4+bodyLen))
	binary.BigEndian.PutUint32(dst[4:], frameTypeNumber)
	binary.BigEndian.PutUint64(dst[8:], uint64(ts))
	binary.BigEndian.PutUint16(dst[frameAttempts:], 1)
	binary.BigEndian.PutUint64(dst[frameID:], hex8(uint32(id>>32)))
	binary.BigEndian.PutUint64(dst[frameID+8:], hex8(uint32(id)))
}

// hasID tells whether the id in a frame is id.
func hasID(frame []byte, id uint64) bool {
	return binary.BigEndian.Uint64(frame[frameID:]) == hex8(uint32(id>>32)) && binary.BigEndian.Uint64(frame[frameID+8:]) == hex8(uint32(id))
}

// hex8 spreads the eight nibbles of v over eight bytes and turns each into its lower-case digit, without a table or a branch.
func hex8(v uint32) uint64 {
	x := uint64(v)
	x = (x<<16 | x) & 0x0000ffff0000ffff
	x = (x<<8 | x) & 0x00ff00ff00ff00ff
	x = (x<<4 | x) & 0x0f0f0f0f0f0f0f0f
	letters := (x + 0x0606060606060606) >> 4 & 0x0101010101010101 // 1 where the nibble is above 9
	return x + 0x3030303030303030 + letters*39
}

// PutAttempts changes the attempts of a copied frame.
func PutAttempts(frame []byte, attempts uint16) {
	binary.BigEndian.PutUint16(frame[frameAttempts:], attempts)
}

// FrameTimestamp returns the publish time of a frame, ns since 1970.
func FrameTimestamp(frame []byte) int64 { return int64(binary.BigEndian.Uint64(frame[8:])) }

// frameLen is the whole length of the frame that starts at mem[0].
func frameLen(mem []byte) int { return int(binary.BigEndian.Uint32(mem)) + 4 }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers the frame and, through its start value, everything that says whose frame it is: the segment's salt (a new one for every
// life of a recycled file), the position and the entry's own flags, reserved bits and aux. For a fixed frame different start values give
// different sums, and a change of any single one of these fields changes the start value, so neither a stale frame nor a flipped flag passes.
func checksum(frame []byte, salt uint64, p Pos, e entry) uint32 {
	return crc32.Update(sumSeed(salt, p, e), castagnoli, frame)
}

func sumSeed(salt uint64, p Pos, e entry) uint32 {
	return uint32(salt) ^ uint32(salt>>32) ^ uint32(p) ^ uint32(p>>32)*0x9e3779b1 ^ e.aux ^ (uint32(e.flags)|uint32(e.reserved)<<16)*0x85ebca6b
}
