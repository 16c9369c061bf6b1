package codec

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// decodeAll decodes every command of p in place and tells how many there were.
func decodeAll(t testing.TB, s *Splitter, pol Policy, cmd *Command, p []byte) (commands int) {
	for len(p) > 0 {
		n, ok, err := s.Next(p, pol, cmd)
		if !ok || err != nil {
			t.Fatalf("Next: ok %v, err %v", ok, err)
		}
		p = p[n:]
		commands++
	}
	return commands
}

// hotInputs are pipelined commands as a busy connection sends them.
func hotInputs() map[string][]byte {
	body := bytes.Repeat([]byte("b"), 200)
	bodies := make([][]byte, 200)
	for i := range bodies {
		bodies[i] = body
	}
	id := []byte(testID)
	in := map[string][]byte{}
	for range 64 {
		in["PUB"] = AppendPub(in["PUB"], "a_topic_name", body)
		in["PUB two topics"] = AppendPub(AppendPub(in["PUB two topics"], "a_topic_name", body), "another_name", body)
		in["DPUB"] = AppendDpub(in["DPUB"], "a_topic_name", 1e9, body)
		in["FIN"] = AppendFin(in["FIN"], id)
		in["REQ"] = AppendReq(in["REQ"], id, 1e9)
		in["TOUCH"] = AppendTouch(in["TOUCH"], id)
		in["RDY"] = AppendRdy(in["RDY"], 100)
		in["NOP"] = AppendNop(in["NOP"])
	}
	in["MPUB"] = AppendMpub(nil, "a_topic_name", bodies)
	return in
}

func TestAlloc_Pipelined(t *testing.T) {
	lim := DefaultLimits()
	for name, in := range hotInputs() {
		var (
			s   Splitter
			cmd Command
		)
		s.Init(&lim)
		require.Zero(t, testing.AllocsPerRun(100, func() { decodeAll(t, &s, subscribed, &cmd, in) }), name)
	}
}

// A command that arrives in pieces allocates nothing either.
func TestAlloc_InPieces(t *testing.T) {
	lim := DefaultLimits()
	for name, in := range hotInputs() {
		var (
			s   Splitter
			cmd Command
		)
		s.Init(&lim)
		require.Zero(t, testing.AllocsPerRun(10, func() {
			start := 0
			for end := 1; end <= len(in); end++ {
				s.Want(end-1-start, in[end-1:end])
				n, _, err := s.Next(in[start:end], subscribed, &cmd)
				if err != nil {
					t.Fatal(err)
				}
				start += n
			}
			if start != len(in) {
				t.Fatal("not all was decoded")
			}
		}), name)
	}
}

func TestAlloc_Frames(t *testing.T) {
	buf := make([]byte, 0, 1024)
	id := []byte(testID)
	refusal := OutcomeFailed(KindFin, id, "ID not in flight")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		PutMessageHeader(buf[:MessageHeader], 200, 1, 1, 1)
		b := AppendResponse(buf, "OK")
		b = AppendError(b, refusal)
		b = AppendID(b, 12345)
		_ = b
		if _, ok := ParseID(id); !ok {
			t.Fatal("id")
		}
	}))
}
