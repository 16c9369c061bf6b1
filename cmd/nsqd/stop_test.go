package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A stop that could not put everything away is no clean exit.
func TestFailedStopExitsWithOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(dir, 0o755))
	p := launch(t, dir)
	p.post(t, "/pub?topic=t", "x")
	require.NoError(t, os.Rename(dir, dir+".moved"))
	require.Equal(t, 1, p.signal(t, syscall.SIGTERM).ExitStatus())
	lines := messages(p.log())
	require.Equal(t, "INFO: NSQ: bye", lines[len(lines)-1])
	require.Regexp(t, `^ERROR: NSQ: stopping failed - .*nsqd\.dat.*no such file or directory`, lines[len(lines)-2])
	p = launch(t, dir+".moved")
	require.Contains(t, p.get(t, "/stats?format=json&topic=t"), `"depth":1,`)
	p.stop(t)
}

// A second SIGTERM while it stops changes nothing, SIGQUIT shows the stacks, the user signals are not heard.
func TestOtherSignals(t *testing.T) {
	p := launch(t, t.TempDir())
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE} {
		require.NoError(t, p.cmd.Process.Signal(sig))
	}
	require.Equal(t, "OK", p.get(t, "/ping"))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.signal(t, syscall.SIGTERM).ExitStatus())

	p = launch(t, t.TempDir())
	require.Equal(t, 2, p.signal(t, syscall.SIGQUIT).ExitStatus())
	require.Contains(t, strings.Join(p.log(), "\n"), "goroutine ")
}

// A socket file that a killed daemon left behind is somebody's to look at: as with the stock daemon, it is in the way.
func TestStaleSocketFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	stale, err := net.Listen("unix", path)
	require.NoError(t, err)
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, stale.Close())
	for _, args := range [][]string{
		{"-tcp-address", path, "-http-address", ""},
		{"-tcp-address", "127.0.0.1:0", "-http-address", path},
	} {
		status, _, stderr := finish(t, append(args, "-data-path", dir)...)
		require.Equal(t, 1, status)
		require.Contains(t, stderr, "FATAL: failed to instantiate nsqd - listen ("+path+") failed - listen unix "+path+": bind: address already in use\n")
	}
	_, err = os.Lstat(path)
	require.NoError(t, err)
}
