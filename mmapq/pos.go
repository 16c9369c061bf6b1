package mmapq

// Pos is a position in one stream of one topic: dense while a segment lasts, ascending for ever, never reused within a topic name.
type Pos uint64

// Stream tells the logs of one topic apart.
type Stream uint8

const (
	// StreamMain holds what is deliverable as soon as it is committed.
	StreamMain Stream = 0
	// StreamDeferred holds published messages with a due time (in their entries).
	StreamDeferred Stream = 1
)

// A message id is 64 bits, written as 16 lower-case hex digits in the frame:
//
//	63        set, so that it never equals an id of a stock nsqd
//	62..53    node id
//	52        stream
//	51..0     position
const (
	idMark      = uint64(1) << 63
	idNodeShift = 53
	idStreamBit = uint64(1) << 52
	posMask     = idStreamBit - 1

	// NodeMax is the largest node id.
	NodeMax = 1023
)

// IDPrefix returns the bits above the position for a node and stream.
func IDPrefix(node uint16, s Stream) uint64 {
	return idMark | uint64(node&NodeMax)<<idNodeShift | uint64(s&1)*idStreamBit
}

// SplitID returns the stream and position that an id would have if it were ours. It says nothing about whether such a message exists: leases
// are found by the whole 64-bit value, and an id from a client is never turned into a place in storage.
func SplitID(id uint64) (Stream, Pos, bool) {
	return Stream(id >> 52 & 1), Pos(id & posMask), id&idMark != 0
}
