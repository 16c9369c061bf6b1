package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nsqloop/nsqloop/cmd/internal/version"
	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/lookupd"
	"github.com/stretchr/testify/require"
)

// logBuffer is a log that is read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

var lineStart = regexp.MustCompile(`(?m)^\[nsqlookupd\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} `)

// lines without prefix and time.
func (b *logBuffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSpace(lineStart.ReplaceAllString(b.buf.String(), "")), "\n")
}

// addresses waits until both listeners are up.
func (b *logBuffer) addresses(t *testing.T) (tcp, http string) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, l := range b.lines() {
			if _, addr, ok := strings.Cut(l, "INFO: TCP: listening on "); ok {
				tcp = addr
			}
			if _, addr, ok := strings.Cut(l, "INFO: HTTP: listening on "); ok {
				http = addr
			}
		}
		return tcp != "" && http != ""
	}, 20*time.Second, time.Millisecond)
	return tcp, http
}

func TestServesAndStops(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		var log logBuffer
		signals := make(chan os.Signal, 1)
		status := make(chan int)
		go func() {
			status <- run([]string{"-tcp-address", "127.0.0.1:0", "-http-address", "127.0.0.1:0", "-broadcast-address", "me"}, io.Discard, &log, signals)
		}()
		tcp, web := log.addresses(t)
		c, err := net.Dial("tcp", tcp)
		require.NoError(t, err)
		defer c.Close()
		identity := []byte(`{"broadcast_address":"a","tcp_port":1,"http_port":2,"version":"x"}`)
		hello := codec.AppendLookupCommand([]byte(codec.LookupMagic), codec.LookupIdentify)
		_, err = c.Write(codec.AppendLookupCommand(codec.AppendLookupBody(hello, identity), codec.LookupRegister, "t", "c"))
		require.NoError(t, err)
		answer, err := lookupd.ReadReply(c, 1000)
		require.NoError(t, err)
		host, err := os.Hostname()
		require.NoError(t, err)
		_, tcpPort, err := net.SplitHostPort(tcp)
		require.NoError(t, err)
		_, httpPort, err := net.SplitHostPort(web)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf(`{"broadcast_address":"me","hostname":"%s","http_port":%s,"tcp_port":%s,"version":"%s"}`, host, httpPort, tcpPort, version.Number),
			string(answer))
		answer, err = lookupd.ReadReply(c, 1000)
		require.NoError(t, err)
		require.Equal(t, "OK", string(answer))

		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		r, err := client.Get("http://" + web + "/lookup?topic=t")
		require.NoError(t, err)
		text, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
		require.Equal(t, `{"channels":["c"],"producers":[{"remote_address":"`+c.LocalAddr().String()+
			`","hostname":"","broadcast_address":"a","tcp_port":1,"http_port":2,"version":"x","topology_zone":"","topology_region":""}]}`, string(text))

		signals <- sig
		require.Equal(t, 0, <-status)
		lines := log.lines()
		require.Equal(t, "INFO: "+version.Line("nsqlookupd"), lines[0])
		require.Equal(t, []string{"INFO: TCP: closing " + tcp, "INFO: HTTP: closing " + web}, lines[len(lines)-2:])
		require.Contains(t, strings.Join(lines, "\n"), "INFO: DB: client("+c.LocalAddr().String()+") UNREGISTER category:channel key:t subkey:c")
	}
}

func TestRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	addr := taken.Addr().String()
	config := filepath.Join(t.TempDir(), "c.toml")
	require.NoError(t, os.WriteFile(config, []byte(`log_level = "loud"`), 0o600))
	inUse := "FATAL: failed to instantiate nsqlookupd - listen (" + addr + ") failed - listen tcp " + addr + ": bind: address already in use"
	cases := []struct {
		args []string
		want string
	}{
		{[]string{"-tcp-address", addr, "-log-prefix", "x"}, inUse},
		{[]string{"-tcp-address", "127.0.0.1:0", "-http-address", addr}, inUse},
		{[]string{"-max-topics", "0"}, "FATAL: failed to instantiate nsqlookupd - --max-topics must be at least 1"},
		{[]string{"-config", config}, "FATAL: failed parsing log_level loud"},
	}
	for _, c := range cases {
		var out bytes.Buffer
		var log logBuffer
		require.Equal(t, 1, run(c.args, &out, &log, nil), c.args)
		require.Empty(t, out.String())
		lines := log.lines()
		require.Equal(t, c.want, lines[len(lines)-1])
	}
	var out bytes.Buffer
	require.Equal(t, 0, run([]string{"--version", "-max-topics", "0"}, &out, io.Discard, nil))
	require.Equal(t, version.Line("nsqlookupd")+"\n", out.String())
	require.Equal(t, 2, run([]string{"-data-path", "x"}, io.Discard, io.Discard, nil))
}
