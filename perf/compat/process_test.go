package compat

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A processCase is one run of the daemon that ends by itself: queueing.md 11.
type processCase struct {
	row    string
	args   string // $d stands for a data path
	file   string // content of $d/file
	status int
	stdout string // regexp of all of it
	stderr string // regexp found in it
}

const (
	processBase = "--data-path=$d --tcp-address=127.0.0.1:0 --http-address=127.0.0.1:0 "
	fatalPrefix = `(?m)^\[nsqd\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} FATAL: `
	instantiate = fatalPrefix + "failed to instantiate nsqd - "
)

var processCases = []processCase{
	{"q11.1.version", "--version --node-id=9999 --config=/does/not/exist", "", 0, `nsqd v1\.3\.0\S* \(built w/go\S+\)\n`, `^$`},
	{"q11.1.help", "--help", "", 0, ``, `(?s)^Usage of nsqd:\n.*-max-rdy-count`},
	{"q11.1.unknown-flag", "--nope", "", 2, ``, `^flag provided but not defined: -nope\nUsage of nsqd:\n`},
	{"q11.1.bad-value", "--node-id=x", "", 2, ``, `^invalid value "x" for flag -node-id: parse error\nUsage of nsqd:\n`},
	{"q11.1.bad-value", "--msg-timeout=60", "", 2, ``, `^invalid value "60" for flag -msg-timeout: parse error\n`},
	{"q11.1.bad-value", "--deflate=maybe", "", 2, ``, `^invalid boolean value "maybe" for -deflate: parse error\n`},
	{"q11.1.flags", processBase + "--deflate false --node-id=9999 --max-deflate-level=0", "", -1, ``, ``},
	{"q11.2.lock", "--data-path=/does/not/exist --node-id=9999", "", 1, ``, instantiate + `failed to lock data-path: open /does/not/exist: no such file or directory\n`},
	{"q11.2.deflate-level", processBase + "--max-deflate-level=10 --node-id=9999", "", 1, ``, instantiate + `--max-deflate-level must be \[1,9\]\n`},
	{"q11.2.node-id", processBase + "--node-id=1024 --auth-http-request-method=x", "", 1, ``, instantiate + `--node-id must be \[0,1024\)\n`},
	{"q11.2.tls-files", processBase + "--tls-cert=$d/no --tls-key=$d/no", "", 1, ``, instantiate + `failed to build TLS config - open \S+/no: no such file or directory\n`},
	{"q11.2.tls-required", processBase + "--tls-required", "", 1, ``, instantiate + `cannot require TLS client connections without TLS key and cert\n`},
	{"q11.2.tls-required", processBase + "--tls-client-auth-policy=x", "", 1, ``, instantiate + `cannot require TLS client connections without TLS key and cert\n`},
	{"q11.2.client-tls", processBase + "--tls-root-ca-file=$d/file", "x", 1, ``, instantiate + `failed to build client TLS config - failed to append certificate to pool\n`},
	{"q11.2.auth-method", processBase + "--auth-http-request-method=GET", "", 1, ``, instantiate + `--auth-http-request-method must be post or get\n`},
	{"q11.2.percentile", processBase + "--e2e-processing-latency-percentile=1.5", "", 1, ``, instantiate + `invalid E2E processing latency percentile: 1\.5\n`},
	{"q11.2.percentile", "--e2e-processing-latency-percentile=abc", "", 1, ``, `Could not parse: abc\n`},
	{"q11.2.listen", "--data-path=$d --tcp-address=127.0.0.1:99999", "", 1, ``, instantiate + `listen \(127\.0\.0\.1:99999\) failed - listen tcp: address 99999: invalid port\n`},
	{"q11.2.tls-min-version", "--tls-min-version=ssl3.0", "", 2, ``, `^invalid value "ssl3\.0" for flag -tls-min-version: unknown tlsVersionOption "ssl3\.0"\n`},
	{"q11.2.log-level", "--log-level=warning", "", 2, ``, `^invalid value "warning" for flag -log-level: invalid log level 'warning' \(debug, info, warn, error, fatal\)\n`},
	{"q11.2.config", "--config=/does/not/exist", "", 1, ``, fatalPrefix + `failed to load config file /does/not/exist - open /does/not/exist: no such file or directory\n`},
	{"q11.2.config", "--config=$d/file", `log_level = "x"`, 1, ``, fatalPrefix + `failed parsing log_level x\n`},
	{"q11.2.config", "--config=$d/file", `mem_queue_size = "abc"`, 1, ``, `ERROR: Resolve failed to coerce value abc \(10000\) for field MemQueueSize - `},
	{"q11.3.precedence", "--config=$d/file --data-path=$d", `id = 5000`, 1, ``, instantiate + `--node-id must be`},
	{"q11.3.precedence", "--config=$d/file --data-path=$d --node-id=1 --auth-http-request-method=x", "id = 5000\nunknown_key = 1", 1, ``, instantiate + `--auth-http-request-method must be`},
}

// processRows are proved here, not by conversations.
func processRows() []string {
	rows := []string{"q11.2.in-use"}
	for _, c := range processCases {
		rows = append(rows, c.row)
	}
	return rows
}

func TestProcess(t *testing.T) {
	t.Parallel()
	p := findPeer(t)
	for _, c := range processCases {
		t.Run(c.row+" "+c.args, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte(c.file), 0o600))
			status, stdout, stderr := runProcess(t, p, dir, strings.Fields(strings.ReplaceAll(c.args, "$d", dir)))
			require.Equal(t, c.status, status, "%s%s", stdout, stderr)
			require.Regexp(t, "^(?:"+c.stdout+")$", stdout)
			require.Regexp(t, c.stderr, stderr)
		})
	}
}

// A data path has one daemon.
func TestProcessLock(t *testing.T) {
	t.Parallel()
	p := findPeer(t)
	d := ownDaemon(t, p)
	status, _, stderr := runProcess(t, p, d.dir, []string{"--data-path=" + d.dir})
	require.Equal(t, 1, status)
	require.Regexp(t, instantiate+`failed to lock data-path: cannot flock directory `+d.dir+
		` - resource temporarily unavailable \(possibly in use by another instance of nsqd\)\n`, stderr)
}

// runProcess runs the daemon to its end. One that goes on is asked to stop once it listens; its status is then -1 if it stopped cleanly.
func runProcess(t *testing.T, p peer, dir string, args []string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(p.path, args...)
	cmd.Dir = dir
	var out, log syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &log
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.After(stopDeadline)
	for asked := false; ; {
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil {
				require.ErrorAs(t, err, &exit)
			}
			if asked && cmd.ProcessState.ExitCode() == 0 {
				return -1, out.String(), log.String()
			}
			return cmd.ProcessState.ExitCode(), out.String(), log.String()
		case <-time.After(10 * time.Millisecond):
			if !asked && strings.Contains(log.String(), "HTTP: listening on ") && strings.Contains(log.String(), "TCP: listening on ") {
				asked = true
				require.NoError(t, cmd.Process.Signal(os.Interrupt))
			}
		case <-deadline:
			require.NoError(t, cmd.Process.Kill())
			t.Fatalf("%s does not end\n%s", cmd, log.String())
		}
	}
}

// syncBuffer is read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
