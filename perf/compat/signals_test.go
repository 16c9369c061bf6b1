package compat

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// signalCases are queueing.md 4.2: what a signal does to a daemon. died is the signal that it dies of, 0 if it exits by itself.
var signalCases = []struct {
	row    string
	signal syscall.Signal
	status int
	died   syscall.Signal
	log    string // regexp found in the log
}{
	{"q4.2.stop", syscall.SIGTERM, 0, 0, `NSQ: bye\n`},
	{"q4.2.stop", syscall.SIGINT, 0, 0, `NSQ: bye\n`},
	{"q4.2.hangup", syscall.SIGHUP, 0, syscall.SIGHUP, ``},
	{"q4.2.dump", syscall.SIGQUIT, 2, 0, `goroutine \d+`},
	{"q4.2.dump", syscall.SIGABRT, 2, 0, `goroutine \d+`},
}

// signalRows are proved by TestSignals and TestMetadataAtStart.
func signalRows() []string {
	rows := []string{"q4.2.ignored", "q12#3", "q5.reading", "q1.restored"}
	for _, c := range signalCases {
		rows = append(rows, c.row)
	}
	return rows
}

func TestSignals(t *testing.T) {
	t.Parallel()
	p := findPeer(t)
	for _, c := range signalCases {
		t.Run(c.signal.String(), func(t *testing.T) {
			t.Parallel()
			if signal.Ignored(c.signal) {
				t.Skip("this signal is ignored here (nohup), and processes inherit that")
			}
			d, err := startDaemon(p, t.TempDir(), nil)
			require.NoError(t, err)
			for _, ignored := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE} {
				require.NoError(t, d.cmd.Process.Signal(ignored))
			}
			require.Equal(t, "2", configValue(t, d, "log_level"))
			require.NoError(t, d.cmd.Process.Signal(c.signal))
			select {
			case <-d.exited:
			case <-time.After(stopDeadline):
				require.NoError(t, d.kill())
				t.Fatal("still there")
			}
			if c.status != 0 || c.died != 0 {
				var exit *exec.ExitError
				require.ErrorAs(t, d.exitErr, &exit)
			}
			status := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
			if c.died != 0 {
				require.True(t, status.Signaled())
				require.Equal(t, c.died, status.Signal())
				require.NotRegexp(t, `NSQ: bye`, d.logText())
				return
			}
			require.True(t, status.Exited())
			require.Equal(t, c.status, status.ExitStatus())
			require.Regexp(t, c.log, d.logText())
		})
	}
}

// TestMetadataAtStart: what nsqd.dat holds is there again; other keys and the version do not matter, names that are none are passed over, and
// what cannot be read ends the start.
func TestMetadataAtStart(t *testing.T) {
	t.Parallel()
	p := findPeer(t)
	write := func(t *testing.T, text string) string {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "nsqd.dat"), []byte(text), 0o600))
		return dir
	}
	t.Run("read", func(t *testing.T) {
		t.Parallel()
		dir := write(t, `{"x":1,"topics":[{"name":"a","paused":true,"channels":[{"name":"c","paused":true},{"name":"bad!","paused":false}]},`+
			`{"name":"no name","channels":[]},{"name":"b","channels":null}],"version":"0.0.1"}`)
		d, err := startDaemonIn(p, dir, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.terminate()) })
		url := "http://" + d.http + "/stats?format=json"
		for path, want := range map[string]string{
			"topics.#": "2", "topics.0.topic_name": `"a"`, "topics.0.paused": "true", "topics.0.channels.#": "1",
			"topics.0.channels.0.channel_name": `"c"`, "topics.0.channels.0.paused": "true", "topics.1.topic_name": `"b"`, "topics.1.channels.#": "0",
		} {
			got, err := statsValue(url, path)
			require.NoError(t, err)
			require.Equal(t, want, got, path)
		}
	})
	for name, text := range map[string]string{"empty": "", "broken": `{"topics":[`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := write(t, text)
			status, _, stderr := runProcess(t, p, dir, []string{"--data-path=" + dir, "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"})
			require.Equal(t, 1, status)
			require.Regexp(t, fatalPrefix+`failed to load metadata - failed to parse metadata in `+dir+`/nsqd\.dat - unexpected end of JSON input\n`, stderr)
		})
	}
}
