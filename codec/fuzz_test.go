package codec

import (
	"encoding/json"
	"fmt"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzSplit: any bytes, cut anywhere, give the commands and refusals of the model, at the same byte as uncut, and what
// is allocated for bodies stays within what arrived. Bit 0 of policy: TLS is required; bit 1: heartbeats are off; the
// rest chooses the state.
func FuzzSplit(f *testing.F) {
	for i, in := range manyConversations() {
		f.Add([]byte(in), []byte{byte(i), byte(i % 5)}, byte(0))
	}
	f.Add([]byte("FIN "+testID+"\nREQ "+testID+" 5\nTOUCH "+testID+"\nRDY\nCLS\nRDY z\n"), []byte{6}, byte(4))
	f.Add([]byte("IDENTIFY\n"+size(2)+"{}PUB t\n"), []byte{1}, byte(1))
	f.Add([]byte("SUB t c\n"), []byte{}, byte(2))
	f.Fuzz(func(t *testing.T, in, cuts []byte, policy byte) {
		pol := Policy{
			State:         []State{StateInit, StateSubscribed, StateClosing}[policy>>2%3],
			TLSRequired:   policy&1 != 0,
			HeartbeatsOff: policy&2 != 0,
		}
		checkSplits(t, string(in), testLimits, pol, inPieces(string(in), cuts))
		checkSplits(t, string(in), testLimits, pol, inPieces(string(in), nil))

		lim := DefaultLimits() // so that great claims pass
		c := newConversation(t, &lim, pol)
		inPieces(string(in), cuts)(c.arriveCarry)
		require.LessOrEqual(t, cap(c.cmd.Bodies), len(in)/2+16)
	})
}

// FuzzIdentify: an accepted IDENTIFY has values within the limits, a refused one the text of a refusal; the response is
// always JSON.
func FuzzIdentify(f *testing.F) {
	for _, body := range []string{
		`{}`, `null`, `[]`, `{"client_id":"c","hostname":"h","user_agent":"u","feature_negotiation":true,"tls_v1":true}`,
		`{"heartbeat_interval":-1,"output_buffer_size":-1,"output_buffer_timeout":-1,"sample_rate":99,"msg_timeout":1000}`,
		`{"heartbeat_interval":60000,"output_buffer_size":65536,"output_buffer_timeout":30000,"msg_timeout":900000}`,
		`{"deflate":true,"deflate_level":9,"snappy":true,"topology_region":"r","topology_zone":"z"}`,
		`{"heartbeat_interval":3e4}`, `{"sample_rate":2147483648}`, `{"Snappy":true,"snappy":null} x`, "{\"m\u017fg_timeout\":7}",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		lim := DefaultIdentifyLimits()
		id, refusal := ParseIdentify(body, lim)
		if refusal != nil {
			require.True(t, refusal.Fatal)
			require.Equal(t, CodeBadBody, refusal.Code)
			require.Regexp(t, `^IDENTIFY (failed to decode JSON body|[a-z ]+ \(-?\d+\) is invalid)$`, refusal.Desc)
			require.Equal(t, Identify{}, id)
			return
		}
		require.True(t, json.Valid(body))
		inRange := func(v, off, low, high int64) { require.True(t, v == off || v >= low && v <= high, "%d", v) }
		inRange(id.HeartbeatInterval.Milliseconds(), 0, 1000, 60_000)
		inRange(id.OutputBufferSize, 1, 64, 65_536)
		inRange(id.OutputBufferTimeout.Milliseconds(), 0, 25, 30_000)
		inRange(int64(id.SampleRate), 0, 0, 99)
		inRange(id.MsgTimeout.Milliseconds(), 1000, 1000, 900_000)
		for _, s := range []string{id.ClientID, id.Hostname, id.UserAgent, id.TopologyRegion, id.TopologyZone} {
			require.True(t, utf8.ValidString(s))
		}

		srv := ServerInfo{Version: string(body), MaxDeflateLevel: 6, Deflate: true, Snappy: true, TopologyZone: id.ClientID}
		g, refusal := Negotiate(&id, &srv)
		require.Equal(t, id.Deflate && id.Snappy, refusal != nil)
		require.LessOrEqual(t, g.DeflateLevel, 6)
		require.True(t, json.Valid(AppendIdentifyResponse(nil, &id, &srv, g)))
	})
}

// FuzzParseID: exactly what AppendID writes is read, and it is what fmt writes.
func FuzzParseID(f *testing.F) {
	for _, id := range []string{testID, "ffffffffffffffff", "0123456789ABCDEF", "0123456789abcdeg", "", "0123456789abcdef0",
		"gggggggggggggggg", "\xb0\xb1\xe1\xe2567890abcdef", "::::::::````````"} {
		f.Add([]byte(id))
	}
	f.Fuzz(func(t *testing.T, id []byte) {
		v, ok := ParseID(id)
		hex := len(id) == 16
		for _, c := range id {
			hex = hex && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
		}
		require.Equal(t, hex, ok)
		if ok {
			require.Equal(t, string(id), fmt.Sprintf("%016x", v))
			require.Equal(t, id, AppendID(nil, v))
		}
	})
}
