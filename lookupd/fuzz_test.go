package lookupd

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// byteConn is a connection whose peer has sent everything and reads everything.
type byteConn struct {
	net.Conn // nil: what is not overridden is not called
	in       io.Reader
	out      bytes.Buffer
}

func (c *byteConn) Read(b []byte) (int, error)       { return c.in.Read(b) }
func (c *byteConn) Write(b []byte) (int, error)      { return c.out.Write(b) }
func (c *byteConn) SetReadDeadline(time.Time) error  { return nil }
func (c *byteConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzSession: whatever a connection sends, replies are whole, nothing it registered is left when it ends, and the registry's books agree.
func FuzzSession(f *testing.F) {
	for _, c := range conversations {
		f.Add([]byte("  V1" + c.send))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := NewRegistry(RegistryOptions{InactiveProducerTimeout: time.Minute, MaxTopics: 3, MaxChannels: 4})
		s := &Server{o: ServerOptions{Registry: r, Log: &memoryLog{}, Version: "1.3.0", MaxLineSize: 256, MaxIdentifySize: 1024}}
		c := &byteConn{in: bytes.NewReader(raw)}
		newSession(s, c, "1.2.3.4:5").run()
		for out := c.out.Bytes(); len(out) > 0; {
			require.GreaterOrEqual(t, len(out), 4)
			size := int(binary.BigEndian.Uint32(out))
			require.GreaterOrEqual(t, len(out)-4, size)
			out = out[4+size:]
		}
		require.Empty(t, r.Nodes())
		require.Empty(t, r.Debug())
		topics, channels := 0, 0
		for _, topic := range r.all() {
			topics++
			channels += len(topic.channels)
			require.Len(t, topic.now().channels, len(topic.channels))
			require.True(t, topic.now().listed || len(topic.channels) > 0)
		}
		require.Equal(t, r.topicCount, topics)
		require.Equal(t, r.channels, channels)
		require.LessOrEqual(t, topics, 3)
		require.LessOrEqual(t, channels, 4)
	})
}
