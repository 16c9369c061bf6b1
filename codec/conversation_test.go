package codec

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testLimits are small, so that every limit is within reach of a short input.
var testLimits = Limits{MaxMsgSize: 100, MaxBodySize: 400, MaxRdyCount: 2500, MaxReqTimeout: time.Hour}

const testID = "0123456789abcdef"

// size is a big-endian size field.
func size(n int32) string { return string([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) }

// render writes a command in the words of the model. Everything is copied out of the input.
func render(cmd *Command) string {
	switch cmd.Kind {
	case KindIdentify, KindAuth:
		return fmt.Sprintf("%s %q", cmd.Kind, cmd.Body)
	case KindSub:
		return fmt.Sprintf("SUB %s %s", cmd.Topic, cmd.Channel)
	case KindRdy:
		return fmt.Sprintf("RDY %d", cmd.Num)
	case KindFin, KindTouch:
		return fmt.Sprintf("%s %q", cmd.Kind, cmd.ID)
	case KindReq:
		return fmt.Sprintf("REQ %q %d %d", cmd.ID, cmd.Num, cmd.Delay)
	case KindPub:
		return fmt.Sprintf("PUB %s %q", cmd.Topic, cmd.Body)
	case KindDpub:
		return fmt.Sprintf("DPUB %s %q %d %d", cmd.Topic, cmd.Body, cmd.Num, cmd.Delay)
	case KindMpubHead:
		return fmt.Sprintf("MPUB %s head", cmd.Topic)
	case KindMpub:
		return fmt.Sprintf("MPUB %s %q", cmd.Topic, cmd.Bodies)
	}
	return cmd.Kind.String()
}

// conversation stands for a session: it feeds a Splitter and follows the states.
type conversation struct {
	t      testing.TB
	s      Splitter
	pol    Policy
	cmd    Command
	events []event
	at     int    // bytes of the conversation that arrived
	held   []byte // the start of an unfinished command
	dead   bool
}

func newConversation(t testing.TB, lim *Limits, pol Policy) *conversation {
	c := &conversation{t: t, pol: pol}
	c.s.Init(lim)
	return c
}

// next calls Next and notes what comes of it.
func (c *conversation) next(p []byte) (n int, ok bool) {
	n, ok, err := c.s.Next(p, c.pol, &c.cmd)
	switch {
	case err != nil:
		require.Zero(c.t, n)
		require.False(c.t, ok)
		require.True(c.t, err.Fatal)
		c.events = append(c.events, event{c.at, "FATAL " + err.Error()})
		c.dead = true
		_, _, again := c.s.Next(p, c.pol, &c.cmd)
		require.Same(c.t, err, again, "a refusal lasts")
	case !ok:
		require.Zero(c.t, n)
	default:
		require.Positive(c.t, n)
		require.LessOrEqual(c.t, n, len(p))
		c.events = append(c.events, event{c.at, render(&c.cmd)})
		c.follow()
	}
	return n, ok
}

// follow changes the state as a session does when everything succeeds.
func (c *conversation) follow() {
	switch c.cmd.Kind {
	case KindSub:
		c.pol.State = StateSubscribed
	case KindCls:
		c.pol.State = StateClosing
	case KindIdentify:
		id, err := ParseIdentify(c.cmd.Body, DefaultIdentifyLimits())
		c.pol.HeartbeatsOff = err == nil && id.HeartbeatInterval == 0
	}
}

// moved gives p at another address and spoils the old place: nothing may point there any more.
func moved(p []byte) []byte {
	q := append([]byte(nil), p...)
	for i := range p {
		p[i] = 0xEE
	}
	return q
}

// arriveWhole keeps all undecoded bytes in one buffer, which moves each time.
func (c *conversation) arriveWhole(data string) {
	c.at += len(data)
	c.held = append(moved(c.held), data...)
	for !c.dead {
		n, ok := c.next(c.held)
		if !ok {
			return
		}
		c.held = c.held[n:]
	}
}

// arriveCarry keeps only the unfinished command, as long as Want tells, and decodes the rest in place.
func (c *conversation) arriveCarry(data string) {
	c.at += len(data)
	in := []byte(data)
	for rounds := 0; len(c.held) > 0 && len(in) > 0 && !c.dead; rounds++ {
		require.Less(c.t, rounds, 6, "Want is too timid")
		want := c.s.Want(len(c.held), in)
		require.GreaterOrEqual(c.t, want, 1)
		require.LessOrEqual(c.t, want, len(in))
		c.held = append(moved(c.held), in[:want]...)
		in = in[want:]
		if n, ok := c.next(c.held); ok {
			require.Equal(c.t, len(c.held), n, "Want reached beyond the command")
			c.held = nil
		}
	}
	for len(in) > 0 && !c.dead {
		n, ok := c.next(in)
		if !ok {
			c.held = append(c.held, in...)
			break
		}
		in = in[n:]
	}
}

// owed is the refusal for an input that ends here.
func (c *conversation) owed() string {
	if e := c.s.Truncated(); e != nil {
		require.True(c.t, e.Fatal)
		return e.Error()
	}
	return ""
}

// texts are the events without the time they came.
func texts(events []event) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.text)
	}
	return out
}

// hear feeds the whole input at once and gives all that came of it.
func hear(t testing.TB, pol Policy, in string) []string {
	c := newConversation(t, &testLimits, pol)
	c.arriveWhole(in)
	out := texts(c.events)
	if owed := c.owed(); owed != "" {
		out = append(out, "OWED "+owed)
	}
	return out
}

// checkSplits requires the same commands and refusals as the model's, at the same bytes, however the input arrives.
func checkSplits(t testing.TB, in string, lim Limits, pol Policy, chunks func(func(chunk string))) {
	want, owed := modelEvents(in, lim, pol)
	for name, arrive := range map[string]func(*conversation, string){
		"whole": (*conversation).arriveWhole, "carry": (*conversation).arriveCarry,
	} {
		c := newConversation(t, &lim, pol)
		seen := 0
		chunks(func(chunk string) {
			arrive(c, chunk)
			for seen < len(want) && want[seen].at <= c.at {
				seen++
			}
			require.Equal(t, texts(want[:seen]), texts(c.events), "%s: early or late after %d bytes of %q", name, c.at, in)
		})
		require.Equal(t, texts(want), texts(c.events), "%s: %q", name, in)
		require.Equal(t, owed, c.owed(), "%s: %q", name, in)
	}
}

// cutAt gives the input in two pieces.
func cutAt(in string, at int) func(func(string)) {
	return func(yield func(string)) {
		yield(in[:at])
		yield(in[at:])
	}
}

// inPieces gives the input in pieces whose lengths are one more than the bytes of sizes, used in turn.
func inPieces(in string, sizes []byte) func(func(string)) {
	return func(yield func(string)) {
		rest := in
		for i := 0; len(rest) > 0; i++ {
			n := len(rest)
			if len(sizes) > 0 {
				n = min(n, int(sizes[i%len(sizes)])+1)
			}
			yield(rest[:n])
			rest = rest[n:]
		}
	}
}

// manyConversations are inputs that together reach every refusal; the tables of the command files add theirs.
func manyConversations() []string {
	sub := "SUB t c\n"
	pub := "PUB topic\n" + size(5) + "hello"
	mpub := "MPUB m\n" + size(22) + size(3) + size(1) + "a" + size(2) + "bb" + size(3) + "ccc"
	all := []string{
		pub + pub + mpub + "NOP\n" + mpub + mpub + pub + "PUB other\n" + size(1) + "x" + pub,
		"IDENTIFY\n" + size(2) + "{}" + "AUTH\n" + size(6) + "secret" + sub + "RDY 5\nFIN " + testID + "\nREQ " + testID +
			" 100\nTOUCH " + testID + "\r\nCLS\nRDY x\nFIN " + testID + "\nNOP\r\n" + pub + "FIN short\n",
		"IDENTIFY\n" + size(25) + `{"heartbeat_interval":-1}` + sub,
		"DPUB topic 100\n" + size(3) + "abc" + "DPUB topic \n" + size(3) + "abc" + "DPUB topic 3600001\n",
		"PUB t\r\n" + size(3) + "a\nb" + "PUB t\n" + size(101),
		"MPUB m\n" + size(1) + size(2) + size(1) + "a" + size(1) + "b" + "NOP\n" + // declared too small
			"MPUB m\n" + size(400) + size(1) + size(1) + "a" + "NOP\n", // and too large
		mpub[:len(mpub)-7] + size(101),
	}
	for _, table := range [][]row{lineRows, pubRows, dpubRows, mpubRows, finRows, subRows, rdyRows, clsRows, authRows,
		identifyRows} {
		for _, r := range table {
			prefix := ""
			switch r.pol.State {
			case StateSubscribed:
				prefix = sub
			case StateClosing:
				prefix = sub + "CLS\n"
			}
			if len(r.in) < 1000 { // the long lines have a test of their own
				all = append(all, prefix+r.in)
			}
		}
	}
	return all
}

// Every conversation, cut at every byte, gives what it gives uncut.
func TestSplit_EveryBoundary(t *testing.T) {
	for _, in := range manyConversations() {
		for at := range len(in) + 1 {
			checkSplits(t, in, testLimits, Policy{}, cutAt(in, at))
		}
	}
}

// Every prefix of every conversation owes what the model says, in every arrangement of small pieces.
func TestSplit_SmallPieces(t *testing.T) {
	for _, in := range manyConversations() {
		for _, sizes := range []string{"\x00", "\x01", "\x02", "\x00\x03", "\x06\x00\x00", "\x10", "\x15\x01"} {
			checkSplits(t, in, testLimits, Policy{}, inPieces(in, []byte(sizes)))
		}
		for end := range len(in) {
			checkSplits(t, in[:end], testLimits, Policy{}, inPieces(in[:end], nil))
		}
	}
}

func TestSplit_TLSRequired(t *testing.T) {
	for _, in := range manyConversations() {
		checkSplits(t, in, testLimits, Policy{TLSRequired: true}, inPieces(in, []byte{3}))
	}
}

// The limit of a line holds wherever its end is and however it arrives.
func TestSplit_LongLines(t *testing.T) {
	long := func(n int, end string) string {
		return "NOP " + strings.Repeat("x", n-len("NOP ")-len(end)) + end
	}
	for _, in := range []string{
		long(16383, "\n"), long(16384, "\n"), long(16384, "\r\n"), long(16385, "\n"), long(16385, "\r\n"), long(20000, "\n"),
		long(16384, ""), long(16383, ""), long(40000, ""),
		"NOP\n" + long(16384, "\n") + long(16385, "\n"),
	} {
		in += "CLS\n"
		for _, sizes := range []string{"", "\xff", "\x7f\xfe", "\x3f"} {
			checkSplits(t, in, testLimits, Policy{}, inPieces(in, []byte(sizes)))
		}
		for at := 16370; at < min(16400, len(in)); at++ {
			checkSplits(t, in, testLimits, Policy{}, cutAt(in, at))
		}
	}
}
