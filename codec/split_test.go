package codec

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// row is one golden conversation: bytes in, commands and refusals out. A refusal ends it.
type row struct {
	pol  Policy
	in   string
	want []string
}

var (
	subscribed = Policy{State: StateSubscribed}
	closing    = Policy{State: StateClosing}
)

func checkRows(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		require.Equal(t, r.want, hear(t, r.pol, r.in), "%.200q", r.in)
	}
}

// The rules every line obeys.
var lineRows = []row{
	{in: "", want: nil},
	{in: "NO", want: nil}, // an unfinished line is owed nothing
	{in: "NOP\n", want: []string{"NOP"}},
	{in: "NOP\r\n", want: []string{"NOP"}},
	{in: "NOP any thing  \n", want: []string{"NOP"}},
	{in: "NOP\r\r\n", want: []string{"FATAL E_INVALID invalid command NOP\r"}},
	{in: "\n", want: []string{"FATAL E_INVALID invalid command "}},
	{in: "\r\n", want: []string{"FATAL E_INVALID invalid command "}},
	{in: "\r\r\n", want: []string{"FATAL E_INVALID invalid command \r"}},
	{in: " NOP\n", want: []string{"FATAL E_INVALID invalid command "}},
	{in: "nop\n", want: []string{"FATAL E_INVALID invalid command nop"}},
	{in: "NOPE x\n", want: []string{"FATAL E_INVALID invalid command NOPE"}},
	{in: "\xff\x00\t x\n", want: []string{"FATAL E_INVALID invalid command \xff\x00\t"}},
	{in: "NOP\nNOP\nBAD\nNOP\n", want: []string{"NOP", "NOP", "FATAL E_INVALID invalid command BAD"}},
	{in: strings.Repeat("A", 16383) + "\n", want: []string{"FATAL E_INVALID invalid command " + strings.Repeat("A", 16383)}},
	{in: strings.Repeat("A", 16384) + "\n", want: []string{"FATAL "}},
	{in: strings.Repeat("A", 16384), want: []string{"FATAL "}},
	{in: strings.Repeat("A", 16383), want: nil},
}

func TestLine(t *testing.T) { checkRows(t, lineRows) }

func TestLine_TooLongHasNoFrame(t *testing.T) {
	var s Splitter
	s.Init(&testLimits)
	_, _, err := s.Next([]byte(strings.Repeat("A", LineMax)), Policy{}, &Command{})
	require.Same(t, ErrLineTooLong, err)
	require.Empty(t, AppendError(nil, err))
}

func TestLine_TLSRequired(t *testing.T) {
	tls := Policy{TLSRequired: true}
	checkRows(t, []row{
		{tls, "IDENTIFY\n" + size(2) + "{}NOP\n", []string{`IDENTIFY "{}"`,
			"FATAL E_INVALID cannot NOP in current state (TLS required)"}},
		{tls, "AUTH x\n", []string{"FATAL E_INVALID cannot AUTH in current state (TLS required)"}},
		{tls, "PUB t\n", []string{"FATAL E_INVALID cannot PUB in current state (TLS required)"}},
		{tls, "w\xff w\n", []string{"FATAL E_INVALID cannot w\xff in current state (TLS required)"}},
		{tls, "\r\n", []string{"FATAL E_INVALID cannot  in current state (TLS required)"}},
		{Policy{State: StateSubscribed, TLSRequired: true}, "FIN " + testID + "\n",
			[]string{"FATAL E_INVALID cannot FIN in current state (TLS required)"}},
	})
}

// A pipelined command after an upgrade point is subject to the policy of its own call, not of an earlier one.
func TestLine_PolicyOfTheCall(t *testing.T) {
	var (
		s   Splitter
		cmd Command
	)
	s.Init(&testLimits)
	in := []byte("PUB t\n" + size(1) + "x")
	_, ok, err := s.Next(in, Policy{}, &cmd)
	require.Nil(t, err)
	require.True(t, ok)
	_, _, err = s.Next(in, Policy{TLSRequired: true}, &cmd)
	require.Equal(t, "E_INVALID cannot PUB in current state (TLS required)", err.Error())
}

// Decoding resumes where it stopped: bytes that were looked at are not looked at again.
func TestSplit_Resumes(t *testing.T) {
	var (
		s   Splitter
		cmd Command
	)
	s.Init(&testLimits)
	line := []byte(strings.Repeat("A", 1000))
	for n := range line {
		_, ok, err := s.Next(line[:n], Policy{}, &cmd)
		require.False(t, ok)
		require.Nil(t, err)
		require.Equal(t, n, s.scanned)
	}

	s.Init(&testLimits)
	bodies := make([][]byte, 50)
	for i := range bodies {
		bodies[i] = []byte("x")
	}
	in := AppendMpub(nil, "t", bodies)
	n, ok, err := s.Next(in, Policy{}, &cmd)
	require.Nil(t, err)
	require.True(t, ok)
	require.Equal(t, KindMpubHead, cmd.Kind)
	in = in[n:]
	for n := 8; n < len(in); n++ {
		_, ok, err := s.Next(in[:n], Policy{}, &cmd)
		require.False(t, ok)
		require.Nil(t, err)
		require.EqualValues(t, (n-8)/5, s.msg)
		require.EqualValues(t, 8+(n-8)/5*5, s.msgAt)
	}
	_, ok, _ = s.Next(in, Policy{}, &cmd)
	require.True(t, ok)
	require.Equal(t, bodies, cmd.Bodies)
}

// Slices handed out have no room behind them: an append to one cannot overwrite the next command.
func TestSplit_SlicesAreClipped(t *testing.T) {
	in := []byte("PUB t\n" + size(1) + "xPUB t\n" + size(1) + "yDPUB t 1\n" + size(1) + "zMPUB t\n" + size(18) + size(2) +
		size(1) + "a" + size(1) + "bSUB t c\nFIN " + testID + "\nTOUCH " + testID + "\nREQ " + testID + " 7\nNOP\n")
	var (
		s   Splitter
		cmd Command
		pol Policy
	)
	s.Init(&testLimits)
	for rest := in; len(rest) > 0; {
		want := string(rest)
		cmd = Command{}
		n, ok, err := s.Next(rest, pol, &cmd)
		require.Nil(t, err)
		require.True(t, ok)
		for _, part := range append(cmd.Bodies, cmd.Topic, cmd.Channel, cmd.Body, cmd.ID) {
			_ = append(part, "overwritten"...)
		}
		require.Equal(t, want, string(rest), "%s", cmd.Kind)
		if cmd.Kind == KindSub {
			pol = subscribed
		}
		rest = rest[n:]
	}
}

// Want never asks for more than can be of use, and for all of that at once.
func TestSplit_Want(t *testing.T) {
	msgs := size(1) + "a" + size(2) + "bb" + size(3) + "ccc"
	for _, c := range []struct {
		head, have, data string // head is a complete MPUB line, or nothing; Next has seen have
		want             int
	}{
		{"", "", "NOP\nNOP\n", 4},
		{"", "NO", "P\nNOP\n", 2},
		{"", "NO", "P", 1},
		{"", "NO", "\n", 1},
		{"", strings.Repeat("A", 16380), "BBBBBBBB\n", 4}, // the line is too long by then
		{"", "PUB t\n", size(3) + "abcPUB", 4},
		{"", "PUB t\n\x00\x00", "\x00\x03abcPUB", 2},
		{"", "PUB t\n" + size(3), "abcPUB", 3},
		{"", "PUB t\n" + size(3) + "ab", "cPUB", 1},
		{"", "PUB t\n" + size(50) + "ab", "cd", 2},
		{"MPUB t\n", "\x00", size(22)[1:] + size(3) + msgs, 3},
		{"MPUB t\n", size(22), size(3) + msgs, 4},
		{"MPUB t\n", size(22) + "\x00", size(3)[1:] + msgs, 3},
		{"MPUB t\n", size(22) + size(3), msgs + "NOP\n", 18},
		{"MPUB t\n", size(22) + size(3), msgs[:17], 17},
		{"MPUB t\n", size(22) + size(3), msgs[:7], 7},
		{"MPUB t\n", size(22) + size(3) + msgs[:4], msgs[4:] + "NOP\n", 14},
		{"MPUB t\n", size(22) + size(3) + msgs[:9], msgs[9:] + "NOP\n", 9},
		{"MPUB t\n", size(22) + size(3) + msgs[:7], msgs[7:] + "NOP\n", 2}, // only the size: it cannot be seen from here
		{"MPUB t\n", size(22) + size(3), msgs[:5] + size(0) + msgs, 9},     // refused there
		{"MPUB t\n", size(22) + size(3), msgs[:5] + size(101) + msgs, 9},
	} {
		var (
			s   Splitter
			cmd Command
		)
		s.Init(&testLimits)
		if c.head != "" {
			_, ok, err := s.Next([]byte(c.head), Policy{}, &cmd)
			require.True(t, ok)
			require.Nil(t, err)
		}
		_, ok, err := s.Next([]byte(c.have), Policy{}, &cmd)
		require.False(t, ok)
		require.Nil(t, err)
		require.Equal(t, c.want, s.Want(len(c.have), []byte(c.data)), "%.30q + %q", c.have, c.data)
	}
}
