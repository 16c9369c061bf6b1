package httpapi

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Conversations hold what the API answers to the byte. They were written from the API's description and from what a stock nsqd 1.3.0
// answers, and run against either:
//
//	go test ./httpapi -run TestConversations
//	PEER_HTTP=127.0.0.1:4151 go test ./httpapi -run TestConversations      a running nsqd with default flags
//
// $t and $u in requests and answers are topics that no other conversation uses.

// exchange is a request and its answer. half closes the sending side after the request.
type exchange struct {
	send string
	half bool
	want want
	// stock is what the stock daemon answers where it differs, with the reason for the difference.
	stock  *want
	reason string
}

// want is an expected answer. body is compared to the byte, or is a regular expression when it begins with ~.
type want struct {
	status int
	header map[string]string
	body   string
	closes bool // the connection ends behind the answer
}

func header(pairs ...string) map[string]string {
	h := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = pairs[i+1]
	}
	return h
}

var (
	nsqOnly  = header("X-Nsq-Content-Type", "nsq; version=1.0")
	nsqJSON  = header("X-Nsq-Content-Type", "nsq; version=1.0", "Content-Type", "application/json; charset=utf-8")
	nsqText  = header("X-Nsq-Content-Type", "nsq; version=1.0", "Content-Type", "text/plain; charset=utf-8")
	bareText = header("Content-Type", "text/plain; charset=utf-8")
	none     = header()
)

var (
	wantOK    = want{status: 200, header: nsqText, body: "OK"}
	wantEmpty = want{status: 200, header: nsqOnly}
	want400   = want{status: 400, header: bareText, body: "400 Bad Request", closes: true}
)

func wantJSON(body string) want { return want{status: 200, header: nsqJSON, body: body} }
func wantErr(status int, code string) want {
	return want{status: status, header: nsqJSON, body: `{"message":"` + code + `"}`}
}

func wantAllow(allow string) want {
	w := wantErr(405, "METHOD_NOT_ALLOWED")
	w.header = maps.Clone(w.header)
	w.header["Allow"] = allow
	return w
}

func want301(location string) want {
	return want{status: 301, header: header("Location", location, "Content-Type", "text/html; charset=utf-8"),
		body: `<a href="` + location + `">Moved Permanently</a>.` + "\n\n"}
}
func want307(location string) want { return want{status: 307, header: header("Location", location)} }

func does(send string, w want) exchange { return exchange{send: send, want: w} }

// line is a request without a body.
func line(method, target string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: h\r\n\r\n"
}

func TestConversations(t *testing.T) {
	addr := os.Getenv("PEER_HTTP")
	if addr == "" {
		addr = newFixture(t, nil).addr
	}
	peer := fixture{addr: addr, network: "tcp"}
	stock := strings.HasPrefix(peer.call(t, "GET", "/info", "").body, `{"version":"1.3.0",`)
	for _, c := range conversations {
		t.Run(c.name, func(t *testing.T) { converse(t, addr, stock, c.steps) })
	}
}

// converse plays one conversation on a connection of its own.
func converse(t *testing.T, addr string, stock bool, steps []exchange) {
	t.Helper()
	names := strings.NewReplacer("$t", uniqueName(), "$u", uniqueName())
	conn := dial(t, "tcp", addr)
	for i, step := range steps {
		w := step.want
		if stock && step.stock != nil {
			w = *step.stock
		}
		conn = step.play(t, conn, addr, names, w, fmt.Sprintf("step %d: %.120q", i, step.send))
	}
}

// play does one exchange and returns the connection for the next.
func (e exchange) play(t *testing.T, conn *talker, addr string, names *strings.Replacer, w want, what string) *talker {
	t.Helper()
	conn.send(t, names.Replace(e.send))
	if e.half {
		require.NoError(t, conn.Conn.(interface{ CloseWrite() error }).CloseWrite())
	}
	method, _, _ := strings.Cut(e.send, " ")
	got, err := conn.read(method)
	require.NoError(t, err, what)
	wantHeader := make(http.Header)
	for k, v := range w.header {
		wantHeader.Set(k, names.Replace(v))
	}
	require.Equal(t, w.status, got.status, "%s: %.300s", what, got.body)
	require.Equal(t, wantHeader, got.header, what)
	if pattern, ok := strings.CutPrefix(w.body, "~"); ok {
		require.Regexp(t, regexp.MustCompile(`\A(?:`+names.Replace(pattern)+`)\z`), got.body, what)
	} else {
		require.Equal(t, names.Replace(w.body), got.body, what)
	}
	if w.closes {
		_, err := conn.in.ReadByte()
		require.ErrorIs(t, err, io.EOF, "%s: the connection should end", what)
	}
	if got.closes || w.closes {
		require.NoError(t, conn.Close())
		return dial(t, "tcp", addr)
	}
	return conn
}

// uniqueName has eight characters, which the layout of the text statistics counts on.
func uniqueName() string { return fmt.Sprintf("t%07d", rand.IntN(1e7)) }
