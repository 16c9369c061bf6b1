package codec

import (
	"encoding/binary"
	"slices"
)

// Frame types.
const (
	FrameResponse = 0
	FrameError    = 1
	FrameMessage  = 2
)

// Layout of a frame, in bytes from its first:
//
//	0        4        8             16          18      34
//	[size   ][type   ][timestamp ns][attempts  ][hex id][body]
//
// Size counts everything after itself. The fields after type belong to message frames only.
const (
	FrameHeader   = 4 + 4                       // size and type
	MessageHeader = FrameHeader + 8 + 2 + IDLen // everything before the body

	MessageTimestampAt = 8
	MessageAttemptsAt  = 16
	MessageIDAt        = 18
)

// Frames that never change. Read-only: they are shared by all connections. Clipped, so that an append to one makes a
// copy instead of writing behind it.
var (
	FrameOK        = slices.Clip(AppendResponse(nil, "OK"))
	FrameHeartbeat = slices.Clip(AppendResponse(nil, "_heartbeat_"))
	FrameCloseWait = slices.Clip(AppendResponse(nil, "CLOSE_WAIT"))
)

// AppendResponse appends a response frame.
func AppendResponse(dst []byte, data string) []byte {
	return append(appendFrameHeader(dst, FrameResponse, len(data)), data...)
}

// AppendResponseBytes appends a response frame.
func AppendResponseBytes(dst, data []byte) []byte {
	return append(appendFrameHeader(dst, FrameResponse, len(data)), data...)
}

// AppendError appends the error frame of e, or nothing if e has none (ErrLineTooLong).
func AppendError(dst []byte, e *Error) []byte {
	if e.Code == "" {
		return dst
	}
	size := len(e.Code)
	if e.Desc != "" {
		size += len(" ") + len(e.Desc)
	}
	dst = append(appendFrameHeader(dst, FrameError, size), e.Code...)
	if e.Desc != "" {
		dst = append(append(dst, ' '), e.Desc...)
	}
	return dst
}

func appendFrameHeader(dst []byte, frameType uint32, dataLen int) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+dataLen))
	return binary.BigEndian.AppendUint32(dst, frameType)
}

// PutMessageHeader writes the first MessageHeader bytes of a message frame into dst, which must have at least that
// many; the body of bodyLen bytes follows them. timestampNs is nanoseconds since 1970.
func PutMessageHeader(dst []byte, bodyLen int, timestampNs int64, attempts uint16, id uint64) {
	dst = dst[:MessageHeader]
	binary.BigEndian.PutUint32(dst, uint32(MessageHeader-4+bodyLen))
	binary.BigEndian.PutUint32(dst[4:], FrameMessage)
	binary.BigEndian.PutUint64(dst[MessageTimestampAt:], uint64(timestampNs))
	binary.BigEndian.PutUint16(dst[MessageAttemptsAt:], attempts)
	binary.BigEndian.PutUint64(dst[MessageIDAt:], hexDigits(id>>32))
	binary.BigEndian.PutUint64(dst[MessageIDAt+8:], hexDigits(id&0xffffffff))
}

// Message is a delivered message as a client sees it. ID and Body alias the frame.
type Message struct {
	Timestamp int64 // nanoseconds since 1970
	Attempts  uint16
	ID        []byte
	Body      []byte
}

// SplitFrame cuts the first frame off p: its type, its data (aliasing p) and its whole length n. ok is false while p
// does not hold a whole frame. A size below 4 cannot come from a server; it gives n < 0.
func SplitFrame(p []byte) (frameType uint32, data []byte, n int, ok bool) {
	if len(p) < FrameHeader {
		return 0, nil, 0, false
	}
	size := int(int32(binary.BigEndian.Uint32(p)))
	if size < 4 {
		return 0, nil, -1, false
	}
	if len(p)-4 < size {
		return 0, nil, 0, false
	}
	n = 4 + size
	return binary.BigEndian.Uint32(p[4:]), p[FrameHeader:n:n], n, true
}

// ParseMessage reads the data of a message frame. ok is false if it is too short.
func ParseMessage(data []byte) (m Message, ok bool) {
	const bodyAt = MessageHeader - FrameHeader
	if len(data) < bodyAt {
		return m, false
	}
	return Message{
		Timestamp: int64(binary.BigEndian.Uint64(data[MessageTimestampAt-FrameHeader:])),
		Attempts:  binary.BigEndian.Uint16(data[MessageAttemptsAt-FrameHeader:]),
		ID:        data[MessageIDAt-FrameHeader : bodyAt : bodyAt],
		Body:      data[bodyAt:],
	}, true
}
