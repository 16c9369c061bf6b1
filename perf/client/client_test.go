package client

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nsqloop/nsqloop/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers the first connection with reply, at most a byte a write if slow, and returns what the client sent until it closed.
func serve(t *testing.T, reply []byte, slow bool) (addr string, sent func() string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	result := make(chan string, 1)
	go func() {
		conn, err := listener.Accept()
		_ = listener.Close() // before the result is known: then nobody else is listened to
		if err != nil {
			result <- err.Error()
			return
		}
		var from io.Reader = bytes.NewReader(reply)
		if slow {
			from = iotest.OneByteReader(from)
		}
		if _, err := io.Copy(struct{ io.Writer }{conn}, from); err != nil {
			result <- err.Error()
			return
		}
		text, err := io.ReadAll(conn)
		if err != nil {
			text = append(text, err.Error()...)
		}
		_ = conn.Close()
		result <- string(text)
	}()
	return listener.Addr().String(), func() string { return <-result }
}

func message(body string) []byte {
	frame := make([]byte, codec.MessageHeader)
	codec.PutMessageHeader(frame, len(body), 1, 2, 3)
	return append(frame, body...)
}

func TestFramesAndHeartbeats(t *testing.T) {
	for _, slow := range []bool{false, true} {
		big := string(bytes.Repeat([]byte("x"), 3*readBuffer))
		reply := bytes.Join([][]byte{
			codec.FrameOK, codec.FrameHeartbeat, codec.FrameOK, message(""), message(big), codec.FrameHeartbeat, codec.FrameCloseWait,
		}, nil)
		if slow {
			reply = reply[:len(codec.FrameOK)*2+len(codec.FrameHeartbeat)+codec.MessageHeader]
		}
		addr, sent := serve(t, reply, slow)
		conn, err := Dial(context.Background(), addr, map[string]any{"msg_timeout": 1000})
		require.NoError(t, err)
		require.NoError(t, conn.Subscribe("t", "c"))
		bodies := []string{"", big}
		if slow {
			bodies = bodies[:1]
		}
		for _, body := range bodies {
			frameType, data, err := conn.Next()
			require.NoError(t, err)
			require.EqualValues(t, codec.FrameMessage, frameType)
			m, ok := codec.ParseMessage(data)
			require.True(t, ok)
			require.Equal(t, body, string(m.Body))
			require.EqualValues(t, 2, m.Attempts)
		}
		want := "  V2IDENTIFY\n\x00\x00\x00\x14{\"msg_timeout\":1000}SUB t c\nNOP\n"
		if !slow {
			require.NoError(t, conn.Expect("CLOSE_WAIT"))
			want += "NOP\n"
		}
		require.False(t, conn.Ready())
		require.NoError(t, conn.Close())
		require.Equal(t, want, sent())
	}
}

func TestRefusals(t *testing.T) {
	addr, sent := serve(t, codec.AppendError(nil, &codec.Error{Code: "E_BAD_BODY", Desc: "no"}), false)
	_, err := Dial(context.Background(), addr, map[string]any{})
	require.ErrorContains(t, err, `IDENTIFY: want response "OK", got frame type 1: "E_BAD_BODY no"`)
	sent()

	addr, sent = serve(t, []byte{0, 0, 0, 3, 0, 0, 0, 0}, false)
	conn, err := Dial(context.Background(), addr, nil)
	require.NoError(t, err)
	_, _, err = conn.Next()
	require.ErrorContains(t, err, "frame of size 00000003")
	require.NoError(t, conn.Close())
	sent()

	_, err = Dial(context.Background(), addr, nil)
	require.Error(t, err)
}
