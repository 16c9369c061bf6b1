package codec

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var mpubRows = []row{
	{in: "MPUB t\n" + size(15) + size(2) + size(1) + "a" + size(2) + "bb", want: []string{"MPUB t head", `MPUB t ["a" "bb"]`}},
	{in: "MPUB t x\r\n" + size(9) + size(1) + size(1) + "\n", want: []string{"MPUB t head", `MPUB t ["\n"]`}},
	{in: "MPUB t\n" + size(108) + size(1) + size(100) + hundred, want: []string{"MPUB t head", `MPUB t ["` + hundred + `"]`}},
	{in: "MPUB " + longestName + "\n" + size(9) + size(1) + size(1) + "a",
		want: []string{"MPUB " + longestName + " head", "MPUB " + longestName + ` ["a"]`}},
	// As many messages as the body limit has room for: (400 - 4) / 5.
	{in: "MPUB t\n" + size(399) + size(79) + strings.Repeat(size(1)+"m", 79),
		want: []string{"MPUB t head", "MPUB t [" + strings.TrimSpace(strings.Repeat(`"m" `, 79)) + "]"}},

	// The declared size only has to be in range.
	{in: "MPUB t\n" + size(1) + size(1) + size(3) + "abcNOP\n", want: []string{"MPUB t head", `MPUB t ["abc"]`, "NOP"}},
	{in: "MPUB t\n" + size(400) + size(1) + size(3) + "abcNOP\n", want: []string{"MPUB t head", `MPUB t ["abc"]`, "NOP"}},

	{in: "MPUB\n", want: []string{"FATAL E_INVALID MPUB insufficient number of parameters"}},
	{in: "MPUB \n", want: []string{`FATAL E_BAD_TOPIC E_BAD_TOPIC MPUB topic name "" is not valid`}},
	{in: "MPUB a$\n", want: []string{`FATAL E_BAD_TOPIC E_BAD_TOPIC MPUB topic name "a$" is not valid`}},
	{in: "MPUB t\n", want: []string{"MPUB t head", "OWED E_BAD_BODY MPUB failed to read body size"}},
	{in: "MPUB t\n\x00\x00", want: []string{"MPUB t head", "OWED E_BAD_BODY MPUB failed to read body size"}},
	{in: "MPUB t\n" + size(0), want: []string{"MPUB t head", "FATAL E_BAD_BODY MPUB invalid body size 0"}},
	{in: "MPUB t\n" + size(-7), want: []string{"MPUB t head", "FATAL E_BAD_BODY MPUB invalid body size -7"}},
	{in: "MPUB t\n" + size(401), want: []string{"MPUB t head", "FATAL E_BAD_BODY MPUB body too big 401 > 400"}},
	{in: "MPUB t\n" + size(400), want: []string{"MPUB t head", "OWED E_BAD_BODY MPUB failed to read message count"}},
	{in: "MPUB t\n" + size(400) + "\x00\x00\x00", want: []string{"MPUB t head", "OWED E_BAD_BODY MPUB failed to read message count"}},
	{in: "MPUB t\n" + size(400) + size(0), want: []string{"MPUB t head", "FATAL E_BAD_BODY MPUB invalid message count 0"}},
	{in: "MPUB t\n" + size(400) + size(-1), want: []string{"MPUB t head", "FATAL E_BAD_BODY MPUB invalid message count -1"}},
	{in: "MPUB t\n" + size(400) + size(80), want: []string{"MPUB t head", "FATAL E_BAD_BODY MPUB invalid message count 80"}},
	{in: "MPUB t\n" + size(9) + size(2),
		want: []string{"MPUB t head", "OWED E_BAD_MESSAGE MPUB failed to read message(0) body size"}},
	{in: "MPUB t\n" + size(9) + size(2) + size(1) + "a\x00",
		want: []string{"MPUB t head", "OWED E_BAD_MESSAGE MPUB failed to read message(1) body size"}},
	{in: "MPUB t\n" + size(9) + size(2) + size(1) + "a" + size(0),
		want: []string{"MPUB t head", "FATAL E_BAD_MESSAGE MPUB invalid message(1) body size 0"}},
	{in: "MPUB t\n" + size(9) + size(2) + size(-3),
		want: []string{"MPUB t head", "FATAL E_BAD_MESSAGE MPUB invalid message(0) body size -3"}},
	{in: "MPUB t\n" + size(9) + size(2) + size(1) + "a" + size(101),
		want: []string{"MPUB t head", "FATAL E_BAD_MESSAGE MPUB message too big 101 > 100"}},
	{in: "MPUB t\n" + size(9) + size(2) + size(1) + "a" + size(9) + "short",
		want: []string{"MPUB t head", "OWED E_BAD_MESSAGE MPUB failed to read message body"}},
	{in: "MPUB t\n" + size(9) + size(1) + size(1) + "aMPUB t\n" + size(9) + size(1) + size(1) + "bPUB t\n" + size(1) + "c",
		want: []string{"MPUB t head", `MPUB t ["a"]`, "MPUB t head", `MPUB t ["b"]`, `PUB t "c"`}},
}

func TestMpub(t *testing.T) { checkRows(t, mpubRows) }

func TestMpub_Bytes(t *testing.T) {
	require.Equal(t, "MPUB topic\n\x00\x00\x00\x11\x00\x00\x00\x02\x00\x00\x00\x02hi\x00\x00\x00\x03you",
		string(AppendMpub(nil, "topic", [][]byte{[]byte("hi"), []byte("you")})))
}

// A body limit below what one message needs allows no MPUB at all.
func TestMpub_TinyBodyLimit(t *testing.T) {
	lim := testLimits
	lim.MaxBodySize = 8
	c := newConversation(t, &lim, Policy{})
	c.arriveWhole("MPUB t\n" + size(8) + size(1))
	require.Equal(t, []string{"MPUB t head", "FATAL E_BAD_BODY MPUB invalid message count 1"}, texts(c.events))
}

// Claims cost nothing: no size and no count makes the decoder allocate before the messages are there.
func TestMpub_ClaimsAllocateNothing(t *testing.T) {
	lim := DefaultLimits()
	inputs := [][]byte{
		[]byte("MPUB t\n" + size(5<<20) + size(1<<20-1) + size(1<<20) + "x"),
		[]byte("PUB t\n" + size(1<<20) + "x"),
		[]byte("IDENTIFY\n" + size(5<<20) + "x"),
	}
	for _, in := range inputs {
		var (
			s             Splitter
			cmd           Command
			before, after runtime.MemStats
		)
		s.Init(&lim)
		runtime.ReadMemStats(&before)
		rest := in
		for {
			n, ok, err := s.Next(rest, Policy{}, &cmd)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			rest = rest[n:]
		}
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4096), "%.20q", in)
		require.Zero(t, cap(cmd.Bodies))
	}
}

// The slice of bodies serves the next MPUB, unless a giant one left it far too big.
func TestMpub_BodiesAreReused(t *testing.T) {
	lim := DefaultLimits()
	small := bytes.Split([]byte(strings.Repeat("x", 200)), nil)
	giant := bytes.Split([]byte(strings.Repeat("y", bodiesKept+1)), nil)
	var (
		s   Splitter
		cmd Command
	)
	s.Init(&lim)
	publish := func(bodies [][]byte) {
		in := AppendMpub(nil, "t", bodies)
		n, ok, err := s.Next(in, Policy{}, &cmd)
		require.Nil(t, err)
		require.True(t, ok)
		require.Equal(t, KindMpubHead, cmd.Kind)
		n, ok, err = s.Next(in[n:], Policy{}, &cmd)
		require.Nil(t, err)
		require.True(t, ok)
		require.Positive(t, n)
		require.Equal(t, bodies, cmd.Bodies)
	}
	publish(small)
	first := &cmd.Bodies[0]
	publish(small[:100])
	require.Same(t, first, &cmd.Bodies[0])
	publish(giant)
	publish(giant)
	require.GreaterOrEqual(t, cap(cmd.Bodies), len(giant))
	publish(small)
	require.Less(t, cap(cmd.Bodies), bodiesKept)
}
