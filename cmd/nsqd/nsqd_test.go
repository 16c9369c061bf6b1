package main

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsqloop/nsqloop/cmd/internal/version"
	"github.com/nsqloop/nsqloop/mmapq"
	"github.com/stretchr/testify/require"
)

func TestStartAndStopLines(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		dir := t.TempDir()
		p := launch(t, dir, "-node-id", "617", "-deflate=false", "-snappy=false")
		require.Equal(t, 0, p.signal(t, sig).ExitStatus())
		got := messages(p.log())
		require.Len(t, got, 12, "%q", got)
		require.Equal(t, []string{
			"INFO: " + version.Line("nsqd"),
			"INFO: ID: 617",
			"INFO: NSQ: persisting topic/channel metadata to " + dir + "/nsqd.dat",
		}, got[:3])
		require.ElementsMatch(t, []string{"INFO: TCP: listening on " + p.tcp, "INFO: HTTP: listening on " + p.http}, got[3:5])
		require.Equal(t, []string{
			"INFO: TCP: closing " + p.tcp,
			"INFO: HTTP: closing " + p.http,
			"INFO: NSQ: persisting topic/channel metadata to " + dir + "/nsqd.dat",
			"INFO: NSQ: closing topics",
			"INFO: NSQ: stopping subsystems",
			"INFO: LOOKUP: closing",
			"INFO: NSQ: bye",
		}, got[5:])
	}
}

func TestHangupKills(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("SIGHUP is ignored here (nohup), and processes inherit that")
	}
	p := launch(t, t.TempDir())
	status := p.signal(t, syscall.SIGHUP)
	require.True(t, status.Signaled())
	require.Equal(t, syscall.SIGHUP, status.Signal())
	require.NotContains(t, strings.Join(p.log(), "\n"), "bye")
}

func TestVersionAndUsage(t *testing.T) {
	status, stdout, stderr := finish(t, "--version", "-data-path", "/does/not/exist")
	require.Equal(t, 0, status)
	require.Equal(t, version.Line("nsqd")+"\n", stdout)
	require.Empty(t, stderr)
	status, stdout, stderr = finish(t, "-h")
	require.Equal(t, 0, status)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "Usage of nsqd:\n")
	status, _, stderr = finish(t, "-nope")
	require.Equal(t, 2, status)
	require.True(t, strings.HasPrefix(stderr, "flag provided but not defined: -nope\nUsage of nsqd:\n"))
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	addr := taken.Addr().String()
	config := filepath.Join(dir, "c.toml")
	require.NoError(t, os.WriteFile(config, []byte("log_level = 5"), 0o600))
	const instantiate = "failed to instantiate nsqd - "
	cases := []struct {
		args []string
		want string
	}{
		{[]string{"-data-path", "/does/not/exist", "-node-id", "5000"}, instantiate + "failed to lock data-path: open /does/not/exist: no such file or directory"},
		{[]string{"-data-path", dir, "-node-id", "5000", "--log-prefix", "other "}, instantiate + "--node-id must be [0,1024)"},
		{[]string{"-data-path", dir, "-tls-cert", "x"}, instantiate + "failed to build TLS config - open x: no such file or directory"},
		{[]string{"-config", config}, "failed parsing log_level 5"},
	}
	for _, c := range cases {
		status, stdout, stderr := finish(t, c.args...)
		require.Equal(t, 1, status, "%q", c.args)
		require.Empty(t, stdout)
		require.Regexp(t, fatal(c.want), stderr)
	}
	for _, args := range [][]string{
		{"-tcp-address", addr, "-http-address", "127.0.0.1:0"},
		{"-tcp-address", "127.0.0.1:0", "-http-address", addr},
	} {
		status, _, stderr := finish(t, append(args, "-data-path", dir)...)
		require.Equal(t, 1, status)
		lines := strings.SplitAfter(stderr, "\n")
		last := lines[len(lines)-2]
		require.Regexp(t, fatal(instantiate+"listen ("+addr+") failed - listen tcp "+addr+": bind: address already in use"), last)
	}
}

func TestLockExcludesASecondDaemon(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	status, _, stderr := finish(t, "-data-path", dir)
	require.Equal(t, 1, status)
	require.Regexp(t, fatal("failed to instantiate nsqd - failed to lock data-path: cannot flock directory "+dir+
		" - resource temporarily unavailable (possibly in use by another instance of nsqd)"), stderr)
	p.stop(t)
	launch(t, dir).stop(t)
}

func TestStockQueuesAreRefusedUntilSomebodyDecides(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	put("nsqd.dat", `{"topics":[{"name":"t","paused":true,"channels":[{"name":"c","paused":true},{"name":"bad name","paused":false}]},{"name":"!","channels":null}],"version":"1.3.0"}`)
	put("t:c.diskqueue.meta.dat", "3\n0,0\n0,4\n")
	put("t:c.diskqueue.000000.dat", "abcd")
	status, _, stderr := finish(t, "-data-path", dir)
	require.Equal(t, 1, status)
	require.Regexp(t, fatal("failed to instantiate nsqd - data-path "+dir+" holds 3 messages in 1 queue of a stock nsqd, which this version does not import: "+
		"drain them with the stock nsqd first, or start with --ignore-stock-queues to leave them where they are"), stderr)
	_, err := os.Stat(filepath.Join(dir, mmapq.ManifestName))
	require.ErrorIs(t, err, os.ErrNotExist, "a refused start leaves nothing behind")

	p := launch(t, dir, "--ignore-stock-queues")
	require.Contains(t, p.get(t, "/stats?format=json&include_mem=0"), `"topics":[{"topic_name":"t","channels":[{"channel_name":"c",`)
	require.Contains(t, p.get(t, "/stats?format=json&include_mem=0"), `"clients":[],"paused":true,"e2e_processing_latency":{"count":0,"percentiles":null}}],`+
		`"depth":0,"backend_depth":0,"message_count":0,"message_bytes":0,"paused":true,`)
	p.logged(t, "WARNING: skipping creation of invalid topic !")
	p.logged(t, "WARNING: skipping creation of invalid channel bad name")
	p.stop(t)
	left, err := os.ReadFile(filepath.Join(dir, "t:c.diskqueue.meta.dat"))
	require.NoError(t, err)
	require.Equal(t, "3\n0,0\n0,4\n", string(left))
	launch(t, dir).stop(t) // decided: the manifest is there
}

// A kill between the first manifest and the take-over of nsqd.dat loses nothing: the file still is the stock daemon's, and is read again.
func TestStockTopicsSurviveAKillDuringTheTakeOver(t *testing.T) {
	dir := t.TempDir()
	launch(t, dir).stop(t) // as far as the manifest
	stock := `{"topics":[{"name":"t","paused":false,"channels":[{"name":"c","paused":true}]}],"version":"1.3.0"}`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nsqd.dat"), []byte(stock), 0o600))
	p := launch(t, dir)
	require.Contains(t, p.get(t, "/stats?format=json&include_mem=0"), `"topics":[{"topic_name":"t","channels":[{"channel_name":"c",`)
	p.stop(t)
	text, err := os.ReadFile(filepath.Join(dir, "nsqd.dat"))
	require.NoError(t, err)
	require.Contains(t, string(text), `"name":"t"`)
	require.Contains(t, string(text), version.Number, "taken over")
	ours := strings.ReplaceAll(string(text), `"name":"t"`, `"name":"other"`)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nsqd.dat"), []byte(ours), 0o600))
	p = launch(t, dir)
	require.NotContains(t, p.get(t, "/stats?format=json&include_mem=0"), "other", "what this daemon wrote is not read")
	p.stop(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nsqd.dat"), []byte("{"), 0o600))
	p = launch(t, dir)
	p.logged(t, "WARNING: failed to load metadata - failed to parse metadata in "+filepath.Join(dir, "nsqd.dat")+" - unexpected end of JSON input")
	p.stop(t)
}

func TestBrokenMetadataOfAStockDaemon(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "nsqd.dat")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	status, _, stderr := finish(t, "-data-path", dir, "-deflate=false", "-snappy=false")
	require.Equal(t, 1, status)
	lines := strings.SplitAfter(stderr, "\n")
	require.Len(t, lines, 4)
	require.Regexp(t, fatal("failed to load metadata - failed to parse metadata in "+file+" - unexpected end of JSON input"), lines[2])
}

func TestMetadataFollowsTopicsAndChannels(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	file := func(want string) {
		t.Helper()
		want = `{"topics":` + want + `,"version":"` + version.Number + `"}`
		require.Eventually(t, func() bool {
			text, err := os.ReadFile(filepath.Join(dir, "nsqd.dat"))
			return err == nil && string(text) == want
		}, 10*time.Second, 5*time.Millisecond, "nsqd.dat is not %s", want)
	}
	file(`null`)
	p.post(t, "/topic/create?topic=a", "")
	file(`[{"name":"a","paused":false,"channels":null}]`)
	p.post(t, "/channel/create?topic=a&channel=c", "")
	p.post(t, "/channel/create?topic=a&channel=d%23ephemeral", "")
	p.post(t, "/topic/create?topic=e%23ephemeral", "")
	p.post(t, "/channel/pause?topic=a&channel=c", "")
	file(`[{"name":"a","paused":false,"channels":[{"name":"c","paused":true}]}]`)
	p.post(t, "/topic/pause?topic=a", "")
	p.post(t, "/channel/unpause?topic=a&channel=c", "")
	file(`[{"name":"a","paused":true,"channels":[{"name":"c","paused":false}]}]`)
	p.stop(t)
	file(`[{"name":"a","paused":true,"channels":[{"name":"c","paused":false}]}]`)
	p = launch(t, dir)
	file(`[{"name":"a","paused":true,"channels":[{"name":"c","paused":false}]}]`)
	p.post(t, "/topic/delete?topic=a", "")
	file(`null`)
	p.stop(t)
}

// message reads one message frame and returns its body.
func message(t *testing.T, c net.Conn) string {
	t.Helper()
	for {
		var size [4]byte
		_, err := io.ReadFull(c, size[:])
		require.NoError(t, err)
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		_, err = io.ReadFull(c, frame)
		require.NoError(t, err)
		if binary.BigEndian.Uint32(frame) == 2 {
			_, err = c.Write([]byte("FIN " + string(frame[14:30]) + "\n"))
			require.NoError(t, err)
			return string(frame[30:])
		}
	}
}

func TestPublishedOverHTTPConsumedOverTCP(t *testing.T) {
	for _, how := range []string{"stop", "kill"} {
		for _, policy := range []string{"interval", "always"} {
			dir := t.TempDir()
			p := launch(t, dir, "-sync-policy", policy)
			p.post(t, "/pub?topic=t", "one")
			p.post(t, "/mpub?topic=t", "two\nthree\n")
			if how == "stop" {
				p.stop(t)
			} else {
				p.signal(t, syscall.SIGKILL)
			}
			p = launch(t, dir)
			c, err := net.Dial("tcp", p.tcp)
			require.NoError(t, err)
			require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
			_, err = c.Write([]byte("  V2SUB t c\nRDY 10\n"))
			require.NoError(t, err)
			require.Equal(t, []string{"one", "two", "three"}, []string{message(t, c), message(t, c), message(t, c)}, "%s %s", how, policy)
			require.Contains(t, p.get(t, "/stats?format=json&include_mem=0&topic=t"), `"client_count":1,"clients":[{"client_id":"127.0.0.1","hostname":"127.0.0.1","version":"V2",`)
			require.NoError(t, c.Close())
			p.stop(t)
		}
	}
}

func TestInfoAndConfigKnowTheBoundPorts(t *testing.T) {
	p := launch(t, t.TempDir(), "-topology-zone", "z")
	_, tcpPort, err := net.SplitHostPort(p.tcp)
	require.NoError(t, err)
	_, httpPort, err := net.SplitHostPort(p.http)
	require.NoError(t, err)
	info := p.get(t, "/info")
	require.Regexp(t, `^\{"version":"`+regexp.QuoteMeta(version.Number)+`","broadcast_address":"127\.0\.0\.1","hostname":"[^"]+","http_port":`+httpPort+`,"tcp_port":`+tcpPort+`,`, info)
	require.Contains(t, info, `"topology_zone":"z"`)
	require.Equal(t, tcpPort, p.get(t, "/config/broadcast_tcp_port"))
	require.Equal(t, "nsq.127_0_0_1_"+httpPort+".", p.get(t, "/config/statsd_prefix"))
	require.Equal(t, "2", p.get(t, "/config/log_level"))
	status, body := p.request(t, "PUT", "/config/log_level", "error")
	require.Equal(t, 200, status)
	require.Equal(t, "4", body)
	p.get(t, "/ping?quiet")
	status, _ = p.request(t, "PUT", "/config/log_level", "info")
	require.Equal(t, 200, status)
	p.get(t, "/ping?loud")
	p.logged(t, "GET /ping?loud")
	require.NotContains(t, strings.Join(p.log(), "\n"), "quiet")
	p.stop(t)
}

// rows: h1.http
func TestUnixSocketsAndNoHTTP(t *testing.T) {
	dir := t.TempDir()
	cmd := command("-data-path", dir, "-tcp-address", filepath.Join(dir, "t.sock"), "-http-address", "")
	var log strings.Builder
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	defer cmd.Process.Kill()
	var c net.Conn
	require.Eventually(t, func() (ok bool) {
		var err error
		c, err = net.Dial("unix", filepath.Join(dir, "t.sock"))
		return err == nil
	}, 10*time.Second, 5*time.Millisecond)
	_, err := c.Write([]byte("  V2PUB t\n\x00\x00\x00\x01x"))
	require.NoError(t, err)
	answer := make([]byte, 10)
	_, err = io.ReadFull(c, answer)
	require.NoError(t, err)
	require.Equal(t, "\x00\x00\x00\x06\x00\x00\x00\x00OK", string(answer))
	require.NoError(t, c.Close())
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	require.NotContains(t, log.String(), "HTTP:")
	require.True(t, strings.HasSuffix(log.String(), "NSQ: bye\n"))
	_, err = os.Stat(filepath.Join(dir, "t.sock"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestProfileIsWrittenWhereItIsAskedFor(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	launch(t, dir, "--profile", "mem").stop(t)
	launch(t, dir, "--profile", "block", "--profile-dir", elsewhere).stop(t)
	for _, file := range []string{filepath.Join(dir, "mem.pprof"), filepath.Join(elsewhere, "block.pprof")} {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.NotZero(t, info.Size())
	}
	require.NoFileExists(t, filepath.Join(dir, "block.pprof"))
}

func TestJSONLog(t *testing.T) {
	p := launch(t, t.TempDir(), "--log-format", "json")
	p.stop(t)
	for _, l := range p.log() {
		require.Regexp(t, `^\{"time":"[^"]+","level":"INFO","message":".*"\}$`, l)
	}
}

func TestBroadcastAddress(t *testing.T) {
	p := launch(t, t.TempDir(), "-broadcast-address", "lo")
	require.Contains(t, p.get(t, "/info"), `"broadcast_address":"127.0.0.1"`)
	require.Equal(t, "127.0.0.1", p.get(t, "/config/broadcast_address"))
	p.stop(t)
	p = launch(t, t.TempDir(), "-broadcast-address", "127.0.0.1", "-tcp-address", ":0")
	p.logged(t, "WARNING: NSQ: --broadcast-address \"127.0.0.1\" is a loopback address, but clients are served on ")
	p.stop(t)
}
