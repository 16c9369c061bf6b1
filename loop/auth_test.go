package loop

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
)

const everything = `{"ttl":3600,"identity":"me","identity_url":"http://me","authorizations":[` +
	`{"topic":".*","channels":[".*"],"permissions":["publish","subscribe"]}]}`

// authServer is an auth server that records what it is asked.
type authServer struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []string // method, path and query, body, headers
	answer func(w http.ResponseWriter, r *http.Request)
}

func startAuth(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *authServer {
	a := &authServer{answer: answer}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *authServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	line := fmt.Sprintf("%s %s %s|%s|%s", r.Method, r.URL, body, r.Header.Get("Accept"), r.Header.Get("Content-Type"))
	a.mu.Lock()
	a.asked = append(a.asked, line)
	a.mu.Unlock()
	a.answer(w, r)
}

func (a *authServer) questions() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.asked...)
}

func (a *authServer) host() string { return strings.TrimPrefix(a.URL, "http://") }

func saying(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func serveAuth(t *testing.T, addresses ...string) *testServer {
	return serve(t, func(o *Options) {
		o.Auth = AuthOptions{Addresses: addresses, ConnectTimeout: patience, RequestTimeout: patience}
	})
}

func (c *client) auth(secret string) { c.sendBytes(codec.AppendAuth(nil, []byte(secret))) }

func (c *client) authed(secret string) {
	c.t.Helper()
	c.auth(secret)
	frameType, data := c.frame()
	require.EqualValues(c.t, codec.FrameResponse, frameType, data)
	require.True(c.t, json.Valid([]byte(data)), data)
}

func TestAuthAsksAndAnswers(t *testing.T) {
	a := startAuth(t, saying(everything))
	s := serveAuth(t, a.host())
	c := s.connect()
	c.auth("a b&c")
	c.wantResponse(`{"identity":"me","identity_url":"http://me","permission_count":1}`)
	require.Equal(t, []string{"GET /auth?common_name=&remote_ip=127.0.0.1&secret=a+b%26c&tls=false |application/vnd.nsq; version=1.0|"}, a.questions())
	c.publish("t", "x")
	c.sendBytes(codec.AppendMpub(nil, "t", [][]byte{[]byte("y")}))
	c.wantOK()
	c.sendBytes(codec.AppendDpub(nil, "t", 0, []byte("z")))
	c.wantOK()
	c.subscribe("t", "ch", 3)
	require.Equal(t, "x", string(c.message().Body))
	require.Len(t, a.questions(), 1)
	st := s.Clients()
	require.Len(t, st, 1)
	require.True(t, st[0].Authed)
	require.Equal(t, "me", st[0].AuthIdentity)
	require.Equal(t, "http://me", st[0].AuthIdentityURL)
}

func TestAuthByPost(t *testing.T) {
	a := startAuth(t, saying(everything))
	s := serve(t, func(o *Options) { o.Auth = AuthOptions{Addresses: []string{a.URL + "/who?k=v"}, Post: true} })
	s.connect().authed("s")
	require.Equal(t, []string{`POST /who?k=v {"common_name":[""],"remote_ip":["127.0.0.1"],"secret":["s"],"tls":["false"]}|application/vnd.nsq; version=1.0|application/json`}, a.questions())
	// A whole URL is taken as it is, a "?" is put behind it even when it has one.
	s = serveAuth(t, a.URL+"/who?k=v")
	s.connect().authed("s")
	require.Contains(t, a.questions()[1], "GET /who?k=v?common_name=&remote_ip=127.0.0.1&secret=s&tls=false ")
}

func TestAuthRefusals(t *testing.T) {
	plain := serve(t, nil)
	c := plain.connect()
	c.auth("s")
	c.wantError("E_AUTH_DISABLED AUTH disabled")
	c.wantClosed()

	a := startAuth(t, saying(everything))
	s := serveAuth(t, a.host())
	for command, name := range map[string]string{
		"SUB t ch\n": "SUB", "PUB t\n\x00\x00\x00\x01x": "PUB", "DPUB t 0\n\x00\x00\x00\x01x": "DPUB", "MPUB t\n": "MPUB",
	} {
		c := s.connect()
		c.send(command)
		c.wantError("E_AUTH_FIRST AUTH required before " + name)
		c.wantClosed()
	}
	require.Nil(t, s.broker.LookupTopic("t"))
	c = s.connect()
	c.authed("s")
	c.auth("s")
	c.wantError("E_INVALID AUTH already set")
	c.wantClosed()
	// What needs no permission needs no AUTH.
	c = s.connect()
	require.Equal(t, "OK", c.identify("{}"))
	c.send("NOP\nFIN 0123456789abcdef\n")
	c.wantError("E_INVALID cannot FIN in current state")
}

func TestPermissions(t *testing.T) {
	a := startAuth(t, saying(`{"ttl":60,"authorizations":[`+
		`{"topic":"^both","channels":[".*"],"permissions":["publish","subscribe"]},`+
		`{"topic":"^in$","channels":["^$"],"permissions":["publish"]},`+
		`{"topic":"^none$","channels":["x"],"permissions":["publish"]},`+
		`{"topic":"^none$","channels":[],"permissions":["publish","subscribe"]},`+
		`{"topic":"^all$","channels":[".*"],"permissions":["subscribe"]},`+
		`{"topic":"^out$","channels":["a","b$"],"permissions":["subscribe"]}]}`))
	s := serveAuth(t, a.host())
	cases := []struct{ command, refusal string }{
		{"PUB both\n\x00\x00\x00\x01x", ""},
		{"PUB both2\n\x00\x00\x00\x01x", ""},
		{"PUB in\n\x00\x00\x00\x01x", ""},
		{"PUB inn\n\x00\x00\x00\x01x", `PUB on "inn" ""`},
		{"PUB none\n\x00\x00\x00\x01x", `PUB on "none" ""`},
		{"PUB all\n\x00\x00\x00\x01x", `PUB on "all" ""`},
		{"DPUB out 0\n\x00\x00\x00\x01x", `DPUB on "out" ""`},
		{"MPUB out\n", `MPUB on "out" ""`},
		{"SUB both c\n", ""},
		{"SUB out cab\n", ""},
		{"SUB out cc\n", `SUB on "out" "cc"`},
		{"SUB in c\n", `SUB on "in" "c"`},
	}
	for _, k := range cases {
		c := s.connect()
		c.authed("s")
		c.send(k.command)
		if k.refusal == "" {
			c.wantOK()
			continue
		}
		c.wantError("E_UNAUTHORIZED AUTH failed for " + k.refusal)
		c.wantClosed()
	}
}

// Answers that are no permission end the connection that asked, and tell it nothing about the auth server.
func TestAuthServersThatLie(t *testing.T) {
	huge := `{"ttl":1,"identity":"` + strings.Repeat("x", authAnswerMax) + `"}`
	one := `{"ttl":1,"authorizations":[{"topic":%q,"channels":[".*"],"permissions":["publish"]}]}`
	cases := []struct{ name, answer, log string }{
		{"no JSON", "<html>", "invalid character '<'"},
		{"nothing", "", "unexpected end of JSON input"},
		{"null", "null", "invalid TTL 0 (must be >0)"},
		{"no TTL", `{"authorizations":[]}`, "invalid TTL 0 (must be >0)"},
		{"negative TTL", `{"ttl":-5}`, "invalid TTL -5 (must be >0)"},
		{"TTL beyond numbers", `{"ttl":1e300}`, "cannot unmarshal"},
		{"unknown permission", `{"ttl":1,"authorizations":[{"topic":"x","permissions":["admin"]}]}`, "unknown permission admin"},
		{"bad topic", fmt.Sprintf(one, "("), "unable to compile topic \"(\" error parsing regexp: missing closing ): `(`"},
		{"bad channel", `{"ttl":1,"authorizations":[{"topic":"x","channels":["*"]}]}`, "unable to compile channel \"*\" error parsing regexp"},
		{"huge", huge, "more than 1048576 bytes"},
		{"long pattern", fmt.Sprintf(one, strings.Repeat("a", authPatternMax+1)), "at most 16384 are taken"},
		{"dear pattern", fmt.Sprintf(one, strings.Repeat("(.{1000})", 300)), "cost more than"},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			a := startAuth(t, saying(k.answer))
			s := serveAuth(t, a.host())
			c, other := s.connect(), s.connect()
			c.auth("hush")
			c.wantError("E_AUTH_FAILED AUTH failed")
			c.wantClosed()
			require.Equal(t, 1, s.log.count("AUTH failed failed to auth against "+a.host()+" - "))
			require.Equal(t, 1, s.log.count(k.log))
			require.Zero(t, s.log.count("hush"))
			other.send("NOP\n")
		})
	}
	t.Run("empty", func(t *testing.T) {
		a := startAuth(t, saying(`{"ttl":5,"authorizations":[]}`))
		c := serveAuth(t, a.host()).connect()
		c.auth("s")
		c.wantError("E_UNAUTHORIZED AUTH no authorizations found")
		c.wantClosed()
	})
	t.Run("status", func(t *testing.T) {
		a := startAuth(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
		s := serveAuth(t, a.host())
		c := s.connect()
		c.auth("s")
		c.wantError("E_AUTH_FAILED AUTH failed")
		require.Equal(t, 1, s.log.count("got response 201 Created"))
	})
	t.Run("absurd TTL", func(t *testing.T) {
		a := startAuth(t, saying(strings.Replace(everything, "3600", "9223372036854775807", 1)))
		c := serveAuth(t, a.host()).connect()
		c.authed("s")
		c.publish("t", "x")
		require.Len(t, a.questions(), 1)
	})
}

// The next server is asked when one does not know.
func TestAuthTriesEveryServer(t *testing.T) {
	bad := startAuth(t, saying("?"))
	good := startAuth(t, saying(everything))
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	s := serveAuth(t, bad.host(), gone.Addr().String(), good.host())
	for range 10 {
		s.connect().authed("hush")
	}
	require.Len(t, good.questions(), 10)

	s = serveAuth(t, gone.Addr().String())
	c := s.connect()
	c.auth("hush")
	c.wantError("E_AUTH_FAILED AUTH failed")
	require.Equal(t, 1, s.log.count("connection refused"))
	require.Zero(t, s.log.count("hush"))
}

// A 403 may name another port.
func TestAuthGoesOnOverHTTPS(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(saying(everything)))
	t.Cleanup(secure.Close)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(secure.URL, "https://"))
	require.NoError(t, err)
	a := startAuth(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"message":"TLS_REQUIRED","https_port":`+port+`}`)
	})
	for _, post := range []bool{false, true} {
		s := serve(t, func(o *Options) {
			o.Auth = AuthOptions{Addresses: []string{a.host()}, Post: post, TLS: secure.Client().Transport.(*http.Transport).TLSClientConfig}
		})
		s.connect().authed("s")
	}
}

// While the auth server thinks, commands wait in order, and everybody else goes on.
func TestAuthSlowServerDelaysOnlyWhoAsks(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 1)
	a := startAuth(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("secret") == "slow" {
			arrived <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, everything)
	})
	s := serveAuth(t, a.host())
	slow, quick := s.connect(), s.connect()
	in := codec.AppendAuth(nil, []byte("slow"))
	in = codec.AppendPub(in, "t", []byte("1"))
	in = codec.AppendMpub(in, "t", [][]byte{[]byte("2"), []byte("3")})
	in = append(in, "SUB t ch\nRDY 10\nWHAT\n"...)
	slow.sendBytes(in)
	<-arrived
	slow.send("NOP\n") // stays in the socket
	quick.authed("quick")
	quick.publish("u", "x")
	require.Nil(t, s.broker.LookupTopic("t"))
	close(release)
	_, data := slow.frame()
	require.Contains(t, data, "permission_count")
	slow.wantOK()
	slow.wantOK()
	slow.wantOK()
	for range 3 { // the error comes behind the SUB, messages before or behind it, or not at all: it is fatal
		if frameType, data := slow.frame(); frameType == codec.FrameError {
			require.Equal(t, "E_INVALID invalid command WHAT", data)
			break
		}
	}
}

// Every byte in a read of its own makes no difference.
func TestAuthByteByByte(t *testing.T) {
	a := startAuth(t, saying(everything))
	s := serveAuth(t, a.host())
	b := idleLoop(s)
	conn, c := b.connect(t)
	in := append([]byte(codec.MagicV2), codec.AppendAuth(nil, []byte("s"))...)
	in = codec.AppendPub(in, "t", []byte("1"))
	in = codec.AppendMpub(in, "t", [][]byte{[]byte("2")})
	b.warmTopic(t, "t")
	for i := range in {
		b.readable(conn, in[i:i+1])
		eventually(t, "answered", func() bool {
			b.turn()
			return !conn.asking()
		})
	}
	_, data := c.frame()
	require.Contains(t, data, "permission_count")
	c.wantOK()
	c.wantOK()
}

// When the time is up the same question is asked again, by the next command that needs it; the command waits for that.
func TestAuthExpires(t *testing.T) {
	var answer atomic.Value
	answer.Store(everything)
	a := startAuth(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer.Load().(string)) })
	s := serveAuth(t, a.host())
	expire := func() {
		inLoop(t, s.loops[0], func() {
			for c := s.loops[0].all.first; c != nil; c = s.loops[0].all.after(c) {
				if c.auth != nil {
					c.auth.until = 0
				}
			}
		})
	}
	commands := []struct{ name, bytes, refusal string }{
		{"PUB", "PUB t\n\x00\x00\x00\x01x", `PUB on "t" ""`},
		{"DPUB", "DPUB t 5\n\x00\x00\x00\x01x", `DPUB on "t" ""`},
		{"MPUB", "MPUB t\n\x00\x00\x00\x09\x00\x00\x00\x01\x00\x00\x00\x01x", `MPUB on "t" ""`},
		{"SUB", "SUB t ch\n", `SUB on "t" "ch"`},
	}
	for _, k := range commands {
		answer.Store(everything)
		c := s.connect()
		c.authed("s" + k.name)
		c.publish("t", "before")
		asked := len(a.questions())
		expire()
		c.send(k.bytes + "NOP\n")
		c.wantOK()
		c.wantNothingElse(s)
		require.Len(t, a.questions(), asked+1, k.name)
		require.Equal(t, a.questions()[asked-1], a.questions()[asked])

		for answerText, want := range map[string]string{
			"down":                            "E_AUTH_FAILED AUTH failed",
			`{"ttl":1,"authorizations":null}`: "E_UNAUTHORIZED AUTH failed for " + k.refusal,
			strings.ReplaceAll(everything, `":".*"`, `":"other"`): "E_UNAUTHORIZED AUTH failed for " + k.refusal,
		} {
			answer.Store(everything)
			c := s.connect()
			c.authed("s")
			c.publish("t", "before")
			expire()
			answer.Store(answerText)
			c.send(k.bytes)
			c.wantError(want)
			c.wantClosed()
		}
	}
}

// wantNothingElse proves that no frame is on its way: the answer to a command that asks for none is the next.
func (c *client) wantNothingElse(s *testServer) {
	c.t.Helper()
	c.send("WHAT\n")
	c.wantError("E_INVALID invalid command WHAT")
}

// A connection that goes away takes its question with it, and Stop does not wait for auth servers.
func TestAuthQuestionsEndWithWhoAsks(t *testing.T) {
	ended := make(chan struct{}, 2)
	arrived := make(chan struct{}, 2)
	a := startAuth(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	s := serve(t, func(o *Options) { o.Auth = AuthOptions{Addresses: []string{a.host()}} }) // no time-out
	c := s.connect()
	c.auth("x")
	<-arrived
	require.NoError(t, c.Conn.(*net.TCPConn).SetLinger(0))
	require.NoError(t, c.Close())
	<-ended
	other := s.connect()
	other.auth("x")
	<-arrived
	require.NoError(t, s.Stop())
	<-ended
	other.wantClosed()
}

// More questions than goroutines: each is answered in its turn.
func TestAuthQueue(t *testing.T) {
	arrived, release := make(chan struct{}, 3*authWorkers), make(chan struct{})
	a := startAuth(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, everything)
	})
	s := serveAuth(t, a.host())
	clients := make([]*client, 3*authWorkers)
	for i := range clients {
		clients[i] = s.connect()
		clients[i].auth("s")
	}
	for range authWorkers {
		<-arrived
	}
	eventually(t, "the rest waits", func() bool {
		s.auth.mu.Lock()
		defer s.auth.mu.Unlock()
		return len(s.auth.queue) == 2*authWorkers && s.auth.running == authWorkers
	})
	close(release)
	for _, c := range clients {
		_, data := c.frame()
		require.Contains(t, data, "permission_count")
	}
}

// Patterns that are too much for a loop are matched elsewhere, with the same result.
func TestDearPatternsAreMatchedByThePool(t *testing.T) {
	dear := strings.Repeat("(x{1000}|)", 3)
	a := startAuth(t, saying(`{"ttl":60,"authorizations":[{"topic":"^`+dear+`yes$","channels":["^`+dear+`ok$"],"permissions":["subscribe"]},`+
		`{"topic":"^`+dear+`yes$","channels":["^$"],"permissions":["publish"]}]}`))
	s := serveAuth(t, a.host())
	for command, want := range map[string]string{
		"PUB yes\n\x00\x00\x00\x01x": "OK",
		"PUB no\n\x00\x00\x00\x01x":  `E_UNAUTHORIZED AUTH failed for PUB on "no" ""`,
		"SUB yes ok\n":               "OK",
		"SUB yes no\n":               `E_UNAUTHORIZED AUTH failed for SUB on "yes" "no"`,
	} {
		c := s.connect()
		c.authed("s")
		c.send(command)
		_, data := c.frame()
		require.Equal(t, want, data)
	}
	require.Len(t, a.questions(), 4)
}

// The publishes before a held command are stored before it is, also when they wait for the disk.
func TestAuthHeldCommandWaitsForTheDisk(t *testing.T) {
	dear := strings.Repeat("(x{1000}|)", 3)
	a := startAuth(t, saying(`{"ttl":60,"authorizations":[{"topic":"`+dear+`","channels":[""],"permissions":["publish"]}]}`))
	s := serveAuth(t, a.host())
	b := idleLoop(s)
	conn, c := b.connect(t)
	b.readable(conn, codec.AppendAuth([]byte(codec.MagicV2), []byte("s")))
	answered := func() bool {
		b.turn()
		return !conn.asking()
	}
	eventually(t, "answered", answered)
	_, data := c.frame()
	require.Contains(t, data, "permission_count")
	b.readable(conn, codec.AppendPub(nil, "asked", []byte("1"))) // asked's first publish: no segment yet
	eventually(t, "answered and stored", func() bool { return answered() && conn.job == nil })
	c.wantOK()

	conn.auth.publish["cold"] = true
	in := codec.AppendPub(nil, "cold", []byte("2")) // waits for the disk
	in = codec.AppendPub(in, "cold2", []byte("3"))  // waits for the answer
	in = codec.AppendPub(in, "cold", []byte("4"))   // waits for both
	b.readable(conn, in)
	require.True(t, conn.asking())
	require.NotNil(t, conn.job)
	var letters []letter
	eventually(t, "both came", func() bool {
		got, _ := b.mail.take()
		letters = append(letters, got...)
		b.mail.done(append([]letter(nil), got...))
		return len(letters) >= 2
	})
	for _, kind := range []letterKind{letterAuth, letterSlow} {
		require.True(t, conn.asking())
		for i := range letters {
			if letters[i].kind == kind {
				b.open(&letters[i])
			}
		}
	}
	require.False(t, conn.asking())
	eventually(t, "stored", func() bool {
		b.turn()
		return conn.job == nil
	})
	for range 3 {
		c.wantOK()
	}
	require.EqualValues(t, 2, s.broker.LookupTopic("cold").Stats().MessageCount)
}

func TestPatternsAreSharedAndForgotten(t *testing.T) {
	var p patternCache
	sum := 0
	one, err := p.compile("^a+$", &sum)
	require.NoError(t, err)
	first := sum
	two, err := p.compile("^a+$", &sum)
	require.NoError(t, err)
	require.Same(t, one, two)
	require.Equal(t, 2*first, sum)
	require.Len(t, p.live, 1)
	one, two = nil, nil
	eventually(t, "forgotten", func() bool {
		runtime.GC()
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.live) == 0
	})
	sum = authCostMax
	_, err = p.compile("b", &sum)
	require.ErrorContains(t, err, "cost more")
}

func TestTTLIsBounded(t *testing.T) {
	g, err := parseGrants([]byte(`{"ttl":9223372036854775807}`), &patternCache{})
	require.NoError(t, err)
	require.Equal(t, ttlMax, g.ttl)
	g, err = parseGrants([]byte(`{"ttl":1}`), &patternCache{})
	require.NoError(t, err)
	require.Equal(t, time.Second, g.ttl)
}
