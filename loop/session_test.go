package loop

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
)

func TestBadMagic(t *testing.T) {
	s := serve(t, nil)
	for _, magic := range []string{"  V1", "GET /", "\x00\x00\x00\x00"} {
		c := s.dial()
		c.send(magic)
		c.wantError("E_BAD_PROTOCOL")
		c.wantClosed()
	}
}

// What is fatal is answered, then the connection is closed; nothing behind it is executed.
func TestFatalErrors(t *testing.T) {
	s := serve(t, nil)
	for _, x := range []struct{ in, want string }{
		{"WHAT\n", "E_INVALID invalid command WHAT"},
		{"\n", "E_INVALID invalid command "},
		{"AUTH\n\x00\x00\x00\x01s", "E_AUTH_DISABLED AUTH disabled"},
		{"AUTH x\n", "E_INVALID AUTH invalid number of parameters"},
		{"RDY 1\n", "E_INVALID cannot RDY in current state"},
		{"FIN 0123456789abcdef\n", "E_INVALID cannot FIN in current state"},
		{"CLS\n", "E_INVALID cannot CLS in current state"},
		{"SUB t\n", "E_INVALID SUB insufficient number of parameters"},
		{"SUB t !\n", `E_BAD_CHANNEL SUB channel name "!" is not valid`},
		{"IDENTIFY\n\x00\x00\x00\x01{", "E_BAD_BODY IDENTIFY failed to decode JSON body"},
		{"IDENTIFY\n\x00\x00\x00\x1a" + `{"heartbeat_interval":999}`, "E_BAD_BODY IDENTIFY heartbeat interval (999) is invalid"},
		{"PUB t\n\x00\x10\x00\x01", "E_BAD_MESSAGE PUB message too big 1048577 > 1048576"},
		{"MPUB t\n\x00\x00\x00\x08\x00\x00\x00\x00", "E_BAD_BODY MPUB invalid message count 0"},
		{"PUB " + strings.Repeat("x", codec.LineMax), ""},
	} {
		c := s.connect()
		c.send(x.in + "PUB after\n\x00\x00\x00\x01x")
		if x.want != "" {
			c.wantError(x.want)
		}
		c.wantClosed()
	}
	require.Nil(t, s.broker.LookupTopic("after"))
	require.NotNil(t, s.broker.LookupTopic("t"), "the head of an MPUB creates the topic")
}

// The body of an oversize PUB is not read, and may still be on its way: what has arrived of it does not turn the close
// into a reset.
func TestErrorFrameSurvivesUnreadInput(t *testing.T) {
	l := idleLoop(serve(t, nil))
	c, peer := l.connect(t)
	peer.send("the body, which nobody reads")
	l.readable(c, []byte(codec.MagicV2+"PUB t\n\x00\x20\x00\x00"))
	peer.wantError("E_BAD_MESSAGE PUB message too big 2097152 > 1048576")
	_, _, err := peer.next()
	require.ErrorIs(t, err, io.EOF)
}

func TestIdentify(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	require.Equal(t, `{"max_rdy_count":2500,"version":"1.3.0+test","max_msg_timeout":900000,"msg_timeout":60000,`+
		`"tls_v1":false,"deflate":false,"deflate_level":6,"max_deflate_level":6,"snappy":false,"sample_rate":0,`+
		`"auth_required":false,"output_buffer_size":16384,"output_buffer_timeout":250,"topology_region":"","topology_zone":""}`,
		c.identify(`{"feature_negotiation":true,"tls_v1":true,"snappy":true,"deflate":true}`))
	require.Contains(t, c.identify(`{"feature_negotiation":true,"msg_timeout":2000,"output_buffer_size":-1}`),
		`"msg_timeout":2000,`)
	require.Contains(t, c.identify(`{"feature_negotiation":true}`), `"msg_timeout":2000,`, "what is not asked for stays")
	c.send("SUB t ch\n")
	c.wantOK()
	c.sendBytes(codec.AppendIdentify(nil, []byte(`{}`)))
	c.wantError("E_INVALID cannot IDENTIFY in current state")
	c.wantClosed()
}

// sample_rate discards for the whole channel.
func TestSampleRate(t *testing.T) {
	s := serve(t, nil)
	p, c := s.connect(), s.connect()
	require.Equal(t, "OK", c.identify(`{"sample_rate":10}`))
	c.subscribe("t", "ch", 2500)
	c.wantSilence()
	const messages = 5000
	bodies := make([][]byte, messages)
	for i := range bodies {
		bodies[i] = []byte("x")
	}
	p.sendBytes(codec.AppendMpub(nil, "t", bodies))
	p.wantOK()
	ch := s.broker.LookupTopic("t").LookupChannel("ch")
	eventually(t, "taken", func() bool { return ch.Stats().Depth == 0 })
	got := int(ch.Stats().InFlight)
	require.InDelta(t, 0.11*messages, got, 150)
	for range got {
		c.message()
	}
	c.wantSilence()
}
