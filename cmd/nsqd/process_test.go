package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests run the daemon as its own process: this test binary, told by the environment to be nsqd.
const beNsqd = "NSQLOOP_TEST_BE_NSQD"

func TestMain(m *testing.M) {
	if os.Getenv(beNsqd) != "" {
		main()
	}
	os.Exit(m.Run())
}

func command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), beNsqd+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// finish runs the daemon to its end and returns what it said.
func finish(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := command(args...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	timer := time.AfterFunc(20*time.Second, func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Log(err)
		}
	})
	defer timer.Stop()
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
	}
	return cmd.ProcessState.ExitCode(), out.String(), log.String()
}

// process is a running daemon on free ports.
type process struct {
	cmd       *exec.Cmd
	tcp, http string // addresses

	mu    sync.Mutex
	lines []string
	done  chan struct{} // closed when stderr ended
}

var listening = regexp.MustCompile(`(TCP|HTTP): listening on (\S+)`)

// launch starts a daemon in dir and waits until it listens.
func launch(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	args = append([]string{"-data-path", dir, "-tcp-address", "127.0.0.1:0", "-http-address", "127.0.0.1:0", "-broadcast-address", "127.0.0.1"}, args...)
	p := &process{cmd: command(args...), done: make(chan struct{})}
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		// An error means that it has ended already, as it should.
		_ = p.cmd.Process.Kill()
		<-p.done
		_ = p.cmd.Wait()
	})
	ready := make(chan struct{})
	go p.read(stderr, ready)
	select {
	case <-ready:
	case <-p.done:
		t.Fatalf("the daemon ended: %q", p.log())
	case <-time.After(20 * time.Second):
		t.Fatalf("the daemon does not listen: %q", p.log())
	}
	return p
}

func (p *process) read(stderr io.Reader, ready chan struct{}) {
	defer close(p.done)
	in := bufio.NewScanner(stderr)
	for in.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, in.Text())
		p.mu.Unlock()
		if m := listening.FindStringSubmatch(in.Text()); m != nil {
			if m[1] == "TCP" {
				p.tcp = m[2]
			} else {
				p.http = m[2]
			}
			if p.tcp != "" && p.http != "" {
				close(ready)
			}
		}
	}
}

func (p *process) log() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

// logged waits for a line that contains text.
func (p *process) logged(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(strings.Join(p.log(), "\n"), text) }, 10*time.Second, 5*time.Millisecond, "%s in %q", text, p.log())
}

// signal sends sig and waits for the end.
func (p *process) signal(t *testing.T, sig syscall.Signal) (status syscall.WaitStatus) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(sig))
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		t.Fatalf("does not stop: %q", p.log())
	}
	if err := p.cmd.Wait(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
	}
	return p.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	require.Equal(t, 0, p.signal(t, syscall.SIGTERM).ExitStatus(), "%q", p.log())
}

// request makes one HTTP request on a connection of its own.
func (p *process) request(t *testing.T, method, target, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+p.http+target, strings.NewReader(body))
	require.NoError(t, err)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	answer, err := client.Do(r)
	require.NoError(t, err)
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode, string(text)
}

func (p *process) post(t *testing.T, target, body string) {
	t.Helper()
	status, text := p.request(t, "POST", target, body)
	require.Equal(t, 200, status, "%s: %s", target, text)
}

func (p *process) get(t *testing.T, target string) string {
	t.Helper()
	status, text := p.request(t, "GET", target, "")
	require.Equal(t, 200, status, "%s: %s", target, text)
	return text
}

// messages strips prefix and time from log lines.
func messages(lines []string) []string {
	var out []string
	for _, l := range lines {
		out = append(out, regexp.MustCompile(`^\[nsqd\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} `).ReplaceAllString(l, ""))
	}
	return out
}

func fatal(text string) string {
	return fmt.Sprintf(`^\[nsqd\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} FATAL: %s\n$`, regexp.QuoteMeta(text))
}
