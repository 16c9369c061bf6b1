package httpapi

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/mmapq"
	"github.com/stretchr/testify/require"
)

// scripted is a connection that says what it was given and ends.
type scripted struct {
	io.Reader
	said bytes.Buffer
}

func (c *scripted) Write(p []byte) (int, error)      { return c.said.Write(p) }
func (c *scripted) Close() error                     { return nil }
func (c *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *scripted) SetDeadline(time.Time) error      { return nil }
func (c *scripted) SetReadDeadline(time.Time) error  { return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }

// FuzzConnection sends anything to the whole server: it must answer in HTTP, if at all, and no handler may crash.
func FuzzConnection(f *testing.F) {
	for _, s := range []string{line("GET", "/ping"), line("OPTIONS", "*"), req("POST", "/pub?topic=t", "x"), chunked("POST", "/mpub?topic=t&binary=1", "\x00\x00\x00\x01\x00\x00\x00\x01a"),
		req("PUT", "/config/log_level", "debug"), line("GET", "/stats?format=json") + line("GET", "/stats"), req("POST", "/channel/create?topic=t&channel=c", ""),
		"POST /pub?topic=t HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"} {
		f.Add(s)
	}
	broker, err := fanout.Open(mmapq.NewHeapDisk(), mmapq.Options{}, fanout.Options{MaxTopics: 10, MaxChannelsPerTopic: 10})
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, broker.Close()) })
	f.Fuzz(func(t *testing.T, raw string) {
		if strings.Contains(strings.ToLower(raw), "pprof") {
			return // profiles take seconds
		}
		log := &memoryLog{}
		inner, err := Listen("127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, inner.Close())
		s := New(inner, Options{Broker: broker, Log: log, Clients: func() Connections { return clientList{} }, Config: func(string) (any, bool) { return nil, false },
			SetLogLevel: func(string) error { return nil }, MaxMsgSize: 1000, MaxBodySize: 5000, MaxReqTimeout: time.Second})
		c := &scripted{Reader: strings.NewReader(raw)}
		if err := s.fast.ServeConn(c); err != nil && c.said.Len() == 0 && raw != "" {
			return // nothing that could be answered
		}
		if c.said.Len() > 0 && !strings.HasPrefix(c.said.String(), "HTTP/1.1 ") {
			t.Fatalf("%q: answered %q", raw, c.said.String())
		}
		if crashed := log.with("panic"); len(crashed) > 0 {
			t.Fatalf("%q: %q", raw, crashed)
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "topic=a&channel=b", "topic=a&topic=b", "a", "=", "&&=&", "a=b=c", "topic=%41%2b+x", "%zz=1", "a=%", "a=%4", "a;b", "a=%3b", "+=+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		want, wantErr := url.ParseQuery(raw)
		got, err := parseQuery(nil, []byte(raw))
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q: %v, net/url says %v", raw, err, wantErr)
		}
		if err != nil {
			return
		}
		for key, values := range want {
			value, ok := got.get(key)
			if !ok || string(value) != values[0] {
				t.Fatalf("%q: %q = %q %v, net/url says %q", raw, key, value, ok, values[0])
			}
		}
		for _, p := range got {
			if _, ok := want[string(p.key)]; !ok {
				t.Fatalf("%q: %q is not a key for net/url", raw, p.key)
			}
		}
	})
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/ping", "/ping?a#b", "//ping", "*", "/%zz", "/%2f/?", "http://h/p?q", "ping", "/ ", "/\x7f", "/config/x/"} {
		f.Add(s)
	}
	e := buildEndpoints(table)
	f.Fuzz(func(t *testing.T, raw string) {
		got, ok := parseTarget([]byte(raw))
		u, err := url.ParseRequestURI(raw)
		if ok != (err == nil) {
			t.Fatalf("%q: %v, net/url says %v", raw, ok, err)
		}
		if !ok {
			return
		}
		if got.path != u.Path || string(got.query) != u.RawQuery || got.requestURI([]byte(raw)) != u.RequestURI() {
			t.Fatalf("%q: %q %q %q, net/url says %q %q %q", raw, got.path, got.query, got.requestURI([]byte(raw)), u.Path, u.RawQuery, u.RequestURI())
		}
		for _, method := range e.methods() {
			if fixed := e.redirect(method, got.path); fixed != "" && e.route(method, fixed) == nil {
				t.Fatalf("%q: redirected to %q, which has no route", raw, fixed)
			}
		}
	})
}

const (
	fuzzMsgMax  = 16
	fuzzBodyMax = 64
)

// FuzzLines compares with the obvious way to do it, on bodies read at once and byte by byte.
func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "\n", "a\nb", "a\r\n\nb\n", strings.Repeat("x", 17), strings.Repeat("x\n", 32), strings.Repeat("x\n", 33), strings.Repeat("\n", 65),
		strings.Repeat("x\n", 17) + strings.Repeat("y", 30) + "\n"} {
		f.Add([]byte(s))
	}
	s := &Server{o: Options{MaxMsgSize: fuzzMsgMax, MaxBodySize: fuzzBodyMax, Log: &memoryLog{}}}
	f.Fuzz(func(t *testing.T, text []byte) {
		want, wantCode := referenceLines(text)
		for _, bytewise := range []bool{false, true} {
			b := fuzzBody(text, bytewise)
			messages, refusal := s.readLines(b)
			checkMessages(t, text, messages, nextLine, refusal, want, wantCode)
			b.release()
		}
	})
}

func referenceLines(text []byte) (messages [][]byte, code string) {
	read := 0
	for line := range bytes.Lines(text) {
		read += len(line)
		if read > fuzzBodyMax {
			return nil, "BODY_TOO_BIG"
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) > fuzzMsgMax {
			return nil, "MSG_TOO_BIG"
		}
		if len(line) > 0 {
			messages = append(messages, line)
		}
	}
	return messages, ""
}

func FuzzBinary(f *testing.F) {
	for _, s := range []string{"", "\x00\x00\x00", "\x00\x00\x00\x00", "\x00\x00\x00\x01\x00\x00\x00\x01a", "\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x02bcd",
		"\xff\xff\xff\xff", "\x00\x00\x00\x01\xff\xff\xff\xff", "\x00\x00\x00\x0c" + strings.Repeat("\x00\x00\x00\x01a", 12)} {
		f.Add([]byte(s))
	}
	s := &Server{o: Options{MaxMsgSize: fuzzMsgMax, MaxBodySize: fuzzBodyMax, Log: &memoryLog{}}}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > fuzzBodyMax {
			return // refused by length before, or see TestConversations
		}
		want, wantCode := referenceBinary(text)
		for _, bytewise := range []bool{false, true} {
			b := fuzzBody(text, bytewise)
			messages, refusal := s.readBinary(b)
			checkMessages(t, text, messages, nextBinary, refusal, want, wantCode)
			b.release()
		}
	})
}

func referenceBinary(text []byte) (messages [][]byte, code string) {
	if len(text) < 4 {
		return nil, "BAD_BODY"
	}
	count := int32(binary.BigEndian.Uint32(text))
	if count <= 0 || count > (fuzzBodyMax-4)/5 {
		return nil, "BAD_BODY"
	}
	text = text[4:]
	for range count {
		if len(text) < 4 {
			return nil, "BAD_MESSAGE"
		}
		size := int(int32(binary.BigEndian.Uint32(text)))
		text = text[4:]
		if size <= 0 || size > fuzzMsgMax || size > len(text) {
			return nil, "BAD_MESSAGE"
		}
		messages = append(messages, text[:size])
		text = text[size:]
	}
	return messages, ""
}

func fuzzBody(text []byte, bytewise bool) *body {
	if bytewise {
		return newBody(iotest.OneByteReader(bytes.NewReader(text)), -1, fuzzBodyMax)
	}
	return newBody(bytes.NewReader(text), len(text), fuzzBodyMax)
}

func checkMessages(t *testing.T, text, packed []byte, next func([]byte) ([]byte, []byte), refusal reply, want [][]byte, code string) {
	t.Helper()
	if code != "" {
		require.Equal(t, `{"message":"`+code+`"}`, string(refusal.body), "%q", text)
		return
	}
	require.Zero(t, refusal.status, "%q: %s", text, refusal.body)
	var got [][]byte
	for len(packed) > 0 {
		var m []byte
		if m, packed = next(packed); len(m) > 0 {
			got = append(got, m)
		}
	}
	require.Equal(t, len(want), len(got), "%q", text)
	for i := range want {
		require.Equal(t, string(want[i]), string(got[i]), "%q", text)
	}
}
