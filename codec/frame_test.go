package codec

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFrame_Fixed(t *testing.T) {
	require.Equal(t, "\x00\x00\x00\x06\x00\x00\x00\x00OK", string(FrameOK))
	require.Equal(t, "\x00\x00\x00\x0f\x00\x00\x00\x00_heartbeat_", string(FrameHeartbeat))
	require.Equal(t, "\x00\x00\x00\x0e\x00\x00\x00\x00CLOSE_WAIT", string(FrameCloseWait))
	for _, frame := range [][]byte{FrameOK, FrameHeartbeat, FrameCloseWait} {
		require.Equal(t, len(frame), cap(frame), "an append would write into a shared frame")
	}
	require.Equal(t, "x\x00\x00\x00\x06\x00\x00\x00\x00{}", string(AppendResponseBytes([]byte("x"), []byte("{}"))))
	require.Equal(t, "x\x00\x00\x00\x04\x00\x00\x00\x00", string(AppendResponse([]byte("x"), "")))
}

// A one-byte body gives size 31.
func TestFrame_Message(t *testing.T) {
	frame := make([]byte, MessageHeader, MessageHeader+1)
	PutMessageHeader(frame, 1, 0x0102030405060708, 0x1122, 0xfedcba9876543210)
	frame = append(frame, 'b')
	require.Equal(t, "\x00\x00\x00\x1f\x00\x00\x00\x02\x01\x02\x03\x04\x05\x06\x07\x08\x11\x22fedcba9876543210b", string(frame))

	frameType, data, n, ok := SplitFrame(append(frame, "next"...))
	require.True(t, ok)
	require.EqualValues(t, FrameMessage, frameType)
	require.Len(t, frame, n)
	m, ok := ParseMessage(data)
	require.True(t, ok)
	require.Equal(t, Message{Timestamp: 0x0102030405060708, Attempts: 0x1122, ID: []byte("fedcba9876543210"), Body: []byte("b")}, m)

	for end := range frame {
		_, _, _, ok := SplitFrame(frame[:end])
		require.False(t, ok)
	}
	_, ok = ParseMessage(data[:25])
	require.False(t, ok)
	m, ok = ParseMessage(data[:26])
	require.True(t, ok)
	require.Empty(t, m.Body)
}

func TestFrame_SplitBadSize(t *testing.T) {
	for _, p := range []string{size(3), size(0), size(-1)} {
		_, _, n, ok := SplitFrame([]byte(p + strings.Repeat("x", 8)))
		require.False(t, ok)
		require.Negative(t, n)
	}
}
