package compat

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// frame is a frame as a peer would send it.
func frame(kind uint32, data string) string {
	head := binary.BigEndian.AppendUint32(nil, uint32(4+len(data)))
	return string(binary.BigEndian.AppendUint32(head, kind)) + data
}

func messageFrame(stamp time.Time, attempts uint16, id, body string) string {
	head := binary.BigEndian.AppendUint64(nil, uint64(stamp.UnixNano()))
	return frame(frameMessage, string(binary.BigEndian.AppendUint16(head, attempts))+id+body)
}

// A fakePeer answers every connection with the same bytes, whatever it is sent:
// a peer as wrong as a test needs it.
type fakePeer struct {
	says   string        // sent once the first bytes have arrived
	pause  time.Duration // before it says it
	closes bool          // close afterwards
}

func (f fakePeer) start(t *testing.T) *daemon {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		sock, err := listener.Accept()
		if err != nil {
			return
		}
		f.serve(sock)
	}()
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		<-served
	})
	return &daemon{network: "tcp", tcp: listener.Addr().String()}
}

// serve ends when the suite closes the connection, or closes it itself; errors
// are what the suite is to notice, not this side.
func (f fakePeer) serve(sock net.Conn) {
	defer func() { _ = sock.Close() }()
	var magic [4]byte
	if _, err := io.ReadFull(sock, magic[:]); err != nil {
		return
	}
	time.Sleep(f.pause)
	if _, err := io.WriteString(sock, f.says); err != nil || f.closes {
		return
	}
	_, _ = io.Copy(io.Discard, sock)
}

const (
	someID  = "0123456789abcdef"
	otherID = "0123456789abcde0"
)

// TestSuiteNotices plays scripts with peers that do something else: a suite that
// cannot fail proves nothing.
func TestSuiteNotices(t *testing.T) {
	now := time.Now()
	ok := frame(frameResponse, "OK")
	good := messageFrame(now, 1, someID, "x")
	cases := []struct {
		name   string
		script string
		peer   fakePeer
		want   string // part of the failure; empty: must pass
	}{
		{"the right answer", "a< ok", fakePeer{says: ok + ok}, ""},
		{"the right end", "a< ok\na< eof", fakePeer{says: ok, closes: true}, ""},
		{"the right message", "a< message $m 1 x\na< message $m 2 x",
			fakePeer{says: good + messageFrame(now, 2, someID, "x") + ok}, ""},
		{"another text", "a< ok", fakePeer{says: frame(frameResponse, "KO")}, `got      response "KO"`},
		{"a longer text", "a< error E_X", fakePeer{says: frame(frameError, "E_X ")}, `got      error "E_X "`},
		{"another frame type", "a< ok", fakePeer{says: frame(frameError, "OK")}, `got      error "OK"`},
		{"no answer", "a< ok", fakePeer{}, "got      nothing"},
		{"a close in place of an answer", "a< ok", fakePeer{closes: true}, "got      eof"},
		{"an answer in place of a close", "a< eof", fakePeer{says: ok}, `got      response "OK"`},
		{"no close", "a< ok\na< close", fakePeer{says: ok}, "got      nothing"},
		{"a frame too many", "a< ok", fakePeer{says: ok + frame(frameError, "E") + ok}, "expected the OK of the fence"},
		{"a close at the end", "a< ok", fakePeer{says: ok, closes: true}, "expected the OK of the fence"},
		{"a heartbeat nobody asked for", "a< ok", fakePeer{says: frame(frameResponse, "_heartbeat_") + ok}, "_heartbeat_"},
		{"a frame cut short", "a< ok", fakePeer{says: ok[:9], closes: true}, "eof inside a frame, after 9 bytes"},
		{"an impossible frame size", "a< ok", fakePeer{says: "\x7f\xff\xff\xff\x00\x00\x00\x00"}, "malformed frame"},
		{"an unknown frame type", "a< ok", fakePeer{says: "\x00\x00\x00\x04\x00\x00\x00\x03"}, "malformed frame"},
		{"too early", "a< (500ms..1s) ok", fakePeer{says: ok}, "expected ok after 500ms to 1s"},
		{"too late", "a< (0s..50ms) ok", fakePeer{says: ok, pause: 200 * time.Millisecond}, "expected ok after 0s to 50ms"},
		{"no silence", "a< silence 300ms", fakePeer{says: ok}, "expected silence"},
		{"a broken pattern", "a< error~ E_A .+", fakePeer{says: frame(frameError, "E_A ")}, `got      error "E_A "`},
		{"a message with another body", "a< message $m 1 x", fakePeer{says: messageFrame(now, 1, someID, "y")}, `body="x"`},
		{"a message with other attempts", "a< message $m 1 x", fakePeer{says: messageFrame(now, 2, someID, "x")}, "attempts=1"},
		{"a message without room for its id", "a< message $m 1 x", fakePeer{says: frame(frameMessage, "short")}, "a message of 5 bytes"},
		{"an id in capitals", "a< message $m 1 x", fakePeer{says: messageFrame(now, 1, "0123456789ABCDEF", "x")}, "lower-case hex"},
		{"an id of the other daemon", "a< message $m 1 x", fakePeer{says: messageFrame(now, 1, "f123456789abcdef", "x")}, "bit 63"},
		{"a timestamp of long ago", "a< message $m 1 x", fakePeer{says: messageFrame(now.Add(-time.Hour), 1, someID, "x")}, "timestamp"},
		{"another id on redelivery", "a< message $m 1 x\na< message $m 2 x",
			fakePeer{says: good + messageFrame(now, 2, otherID, "x")}, "id " + otherID},
		{"another timestamp on redelivery", "a< message $m 1 x\na< message $m 2 x",
			fakePeer{says: good + messageFrame(now.Add(1), 2, someID, "x")}, "timestamp"},
		{"one id for two messages", "a< message $m 1 x\na< message $n 1 x", fakePeer{says: good + good}, "$n has the id of $m"},
		{"no end to drain", "a drain", fakePeer{says: ok}, "no end after 1 frames"},
		{"a half-closed connection that stays", "a half-close", fakePeer{says: ok}, "not accounted for"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			parsed, err := parseScript("self", "== self\nrows: x\n"+c.script)
			require.NoError(t, err)
			p := newPlayer(parsed[0], c.peer.start(t), peer{version: stockVersion, variant: "stock"}, false, 0)
			p.patience = 500 * time.Millisecond
			err = p.play()
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestVariants: a line for the other daemon is not played, one for this is.
func TestVariants(t *testing.T) {
	script := "== v\nrows: x\n[some-id] stock: a< ok\n[some-id] ours: a< error E"
	for _, variant := range []string{"stock", "ours"} {
		parsed, err := parseScript("self", script)
		require.NoError(t, err)
		d := fakePeer{says: frame(frameResponse, "OK") + frame(frameResponse, "OK")}.start(t)
		p := newPlayer(parsed[0], d, peer{version: "v", variant: variant}, true, 0)
		p.patience = 500 * time.Millisecond
		if err := p.play(); variant == "stock" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, `expected error "E"`)
		}
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"t": "topic", "m1": "id", "i": "1"}
	for _, c := range []struct{ text, want string }{
		{`PUB $t\n`, "PUB topic\n"},
		{`${t}x$m1`, "topicxid"},
		{`$m@$i`, "id1"},
		{`<5><-1>`, "\x00\x00\x00\x05\xff\xff\xff\xff"},
		{`[hello]`, "\x00\x00\x00\x05hello"},
		{`[]`, "\x00\x00\x00\x00"},
		{`[<2>[a][$t]]`, "\x00\x00\x00\x12\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x05topic"},
		{`<ab*3>`, "ababab"},
		{`\x00\xff\\\[\]\<\>\$\r\t`, "\x00\xff\\[]<>$\r\t"},
		{`a > b`, "a > b"},
	} {
		got, err := expand(c.text, vars)
		require.NoError(t, err, c.text)
		require.Equal(t, c.want, string(got), c.text)
	}
	for _, text := range []string{`[a`, `a]`, `<5`, `<x>`, `<2147483648>`, `$unbound`, `${t`, `\q`, `\x1`, `\`, `<a*x>`} {
		_, err := expand(text, vars)
		require.Error(t, err, text)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, script := range []string{
		"a> NOP\\n",
		"== x\nrows: y\nnonsense",
		"== x\nrows: y\na eats",
		"== x\ndaemon: none",
		"== x\nrows: y\n[id] theirs: a< ok",
	} {
		_, err := parseScript("self", script)
		require.Error(t, err, script)
	}
}
