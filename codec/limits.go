package codec

import "time"

const (
	// LineMax is the longest command line in bytes, its '\n' included. A connection that sends this many bytes without
	// a '\n' is closed without an error frame.
	LineMax = 16384

	// NameMax is the longest topic or channel name in bytes, "#ephemeral" included.
	NameMax = 64

	// IDLen is the length of a message id on the wire: 16 lower-case hex digits.
	IDLen = 16

	// sizeLen is the width of every size and count field.
	sizeLen = 4
)

// The longest line that is not refused is SUB with two full names and "\r\n". It must fit a line, and a name must fit
// the byte that counts it in Splitter: either constant below stops compiling when it does not.
const (
	_ = uint(LineMax - len("SUB ") - NameMax - len(" ") - NameMax - len("\r\n"))
	_ = uint8(NameMax)
)

// Limits are the configured bounds that decoding needs, shared read-only by all connections.
type Limits struct {
	MaxMsgSize    int64         // bytes of one message body
	MaxBodySize   int64         // bytes of an IDENTIFY, AUTH or MPUB body
	MaxRdyCount   int64         // messages
	MaxReqTimeout time.Duration // upper bound of REQ (clamped) and DPUB (refused)
}

// DefaultLimits are the values of the flags when none is given.
func DefaultLimits() Limits {
	return Limits{
		MaxMsgSize:    1 << 20,
		MaxBodySize:   5 << 20,
		MaxRdyCount:   2500,
		MaxReqTimeout: time.Hour,
	}
}

// maxMpubCount is the largest message count an MPUB may announce: what fits the body limit if every message had one
// byte (4 for the count field, 5 for a size field and one byte).
func (l *Limits) maxMpubCount() int64 { return (l.MaxBodySize - 4) / 5 }
