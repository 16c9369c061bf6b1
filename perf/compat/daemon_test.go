package compat

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startDeadline = 20 * time.Second
	stopDeadline  = 20 * time.Second
)

// A daemon is one running nsqd. Its fields are fixed once it has started; only
// the log and the exit are shared with the goroutine that reads its output.
type daemon struct {
	dir     string
	network string // of tcp: "tcp" or "unix"
	tcp     string // address of the TCP protocol
	http    string // address of the HTTP API
	cmd     *exec.Cmd
	exited  chan struct{} // closed when the process is gone and its output read
	exitErr error         // valid once exited is closed
	damaged bool          // a step took its disk away; how it exits says nothing

	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

// startDaemon runs the peer on free ports, with a data path of its own below
// root, and returns once it listens. $dir in flags stands for the data path, $auth
// for the address of an auth server, $cert and $key for the files of an identity.
func startDaemon(p peer, root string, flags []string) (*daemon, error) {
	dir, err := os.MkdirTemp(root, "d")
	if err != nil {
		return nil, err
	}
	return startDaemonIn(p, dir, flags)
}

// startDaemonIn is startDaemon on a data path that is there already.
func startDaemonIn(p peer, dir string, flags []string) (*daemon, error) {
	var err error
	args := []string{"--data-path=" + dir, "--http-address=127.0.0.1:0"}
	if !strings.Contains(strings.Join(flags, " "), "--tcp-address") {
		args = append(args, "--tcp-address=127.0.0.1:0")
	}
	for _, f := range flags {
		f = strings.ReplaceAll(f, "$dir", dir)
		if f, err = identityFlag(f); err != nil {
			return nil, err
		}
		if strings.Contains(f, "$auth") {
			f = strings.ReplaceAll(f, "$auth", authAddress())
		}
		args = append(args, f)
	}
	d := &daemon{dir: dir, cmd: exec.Command(p.path, args...), exited: make(chan struct{})}
	// A daemon must not outlive a test process that was killed.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	d.cmd.Dir = dir
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	listening := make(chan struct{})
	go d.watch(stderr, listening)
	select {
	case <-listening:
		return d, nil
	case <-d.exited:
		return nil, fmt.Errorf("%s: exited before it listened: %v\n%s", d.cmd, d.exitErr, d.logText())
	case <-time.After(startDeadline):
		return nil, errors.Join(fmt.Errorf("%s: does not listen\n%s", d.cmd, d.logText()), d.kill())
	}
}

// watch collects the log, closes listening when both addresses are known, and
// reaps the process.
func (d *daemon) watch(stderr io.Reader, listening chan struct{}) {
	defer close(d.exited)
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		d.mu.Lock()
		d.log.WriteString(line)
		d.mu.Unlock()
		_, tcp, isTCP := strings.Cut(strings.TrimSpace(line), " TCP: listening on ")
		_, http, isHTTP := strings.Cut(strings.TrimSpace(line), " HTTP: listening on ")
		if listening != nil && (isTCP || isHTTP) {
			if isTCP {
				d.setTCP(tcp)
			} else {
				d.http = http
			}
			if d.tcp != "" && d.http != "" {
				close(listening)
				listening = nil
			}
		}
		if err != nil {
			break
		}
	}
	d.exitErr = d.cmd.Wait()
}

func (d *daemon) setTCP(address string) {
	d.network, d.tcp = "tcp", address
	if _, _, err := net.SplitHostPort(address); err != nil {
		d.network = "unix"
	}
}

func (d *daemon) logText() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// terminate sends SIGTERM and requires a clean exit and a log without a panic
// or a data race.
func (d *daemon) terminate() error {
	select {
	case <-d.exited:
	default:
		if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	select {
	case <-d.exited:
	case <-time.After(stopDeadline):
		return errors.Join(fmt.Errorf("%s: still running after SIGTERM\n%s", d.cmd, d.logText()), d.kill())
	}
	log := d.logText()
	if d.exitErr != nil {
		return fmt.Errorf("%s: %v\n%s", d.cmd, d.exitErr, log)
	}
	for _, word := range []string{"DATA RACE", "panic:", "goroutine "} {
		if strings.Contains(log, word) {
			return fmt.Errorf("%s: %q in its log\n%s", d.cmd, word, log)
		}
	}
	return nil
}

func (d *daemon) kill() error {
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-d.exited
	return nil
}

// limitFileSize makes every write of the daemon beyond the given offset fail,
// which is what a full disk looks like from inside.
func (d *daemon) limitFileSize(bytes uint64) error {
	d.damaged = true
	limit := unix.Rlimit{Cur: bytes, Max: bytes}
	return unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil)
}
