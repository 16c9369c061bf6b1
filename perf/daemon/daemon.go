// Package daemon starts an nsqd binary as a child process for the rigs and benches under perf, and reads what it costs.
//
// Any binary that speaks nsqd's flags and prints nsqd's "TCP: listening on" and "HTTP: listening on" lines will do. The child
// listens on free loopback ports, which are learned from those lines, and logs to a tail that is kept in memory for failure
// reports. Nothing here interprets what the daemon does; that is the business of the ledger and of the benches.
package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options says what to start.
type Options struct {
	Path     string        // the nsqd or nsqlookupd binary
	DataPath string        // existing directory, passed as --data-path; empty for an nsqlookupd, which has none
	Args     []string      // further flags, after those this package sets
	Env      []string      // KEY=VALUE, added to the environment of this process
	Log      io.Writer     // receives every line the daemon prints; nil for none. Written by one goroutine, until Done is closed
	Ready    time.Duration // how long to wait for both listeners; 0 is 30 s
	Files    []*os.File    // descriptors 3, 4, ... of the daemon; the caller closes its own ones
	Started  func(pid int) // called when the process runs, before it listens; nil for none
}

// Process is a running daemon. Its methods may be called from any goroutine.
type Process struct {
	TCPAddr  string // host:port of the V2 listener
	HTTPAddr string // host:port of the HTTP listener

	cmd   *exec.Cmd
	log   io.Writer
	ready chan struct{} // closed by the reader once both addresses are known
	done  chan struct{} // closed by the reader after the process was waited for

	mu      sync.Mutex
	tail    []string // last lines printed, oldest first
	waitErr error    // valid once done is closed
}

// tailLines bounds the memory kept for failure reports; a Go crash prints its first goroutine within that.
const tailLines = 400

// Start runs the daemon and returns when both listeners are up. On error nothing is left running. The daemon is not tied to ctx
// once Start has returned: end it with Kill or Stop.
func Start(ctx context.Context, o Options) (*Process, error) {
	args := []string{"--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"}
	if o.DataPath != "" {
		args = append(args, "--data-path="+o.DataPath)
	}
	args = append(args, o.Args...)
	p := &Process{
		cmd:   exec.Command(o.Path, args...),
		log:   o.Log,
		ready: make(chan struct{}),
		done:  make(chan struct{}),
	}
	p.cmd.Env = append(os.Environ(), o.Env...)
	p.cmd.ExtraFiles = o.Files
	pipe, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Path, err)
	}
	if o.Started != nil {
		o.Started(p.PID())
	}
	go p.read(pipe)

	wait := o.Ready
	if wait == 0 {
		wait = 30 * time.Second
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-p.ready:
		return p, nil
	case <-p.done:
		return nil, fmt.Errorf("%s ended before it listened: %v\n%s", o.Path, p.ExitError(), p.Tail(20))
	case <-timer.C:
		err = fmt.Errorf("%s does not listen after %v\n%s", o.Path, wait, p.Tail(20))
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, p.Kill())
}

// read owns the pipe and the waiting: exec wants every read done before Wait.
func (p *Process) read(pipe io.Reader) {
	defer close(p.done)
	lines := bufio.NewReader(pipe)
	up := 0
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			p.keep(line)
		}
		if err != nil {
			break
		}
		if p.TCPAddr == "" && listening(line, "TCP: listening on ", &p.TCPAddr) ||
			p.HTTPAddr == "" && listening(line, "HTTP: listening on ", &p.HTTPAddr) {
			if up++; up == 2 {
				close(p.ready)
			}
		}
	}
	err := p.cmd.Wait()
	p.mu.Lock()
	p.waitErr = err
	p.mu.Unlock()
}

// listening stores the address that follows mark. "HTTPS: listening on" does not contain the mark of HTTP.
func listening(line, mark string, addr *string) bool {
	_, after, found := strings.Cut(line, mark)
	if found {
		*addr = strings.TrimSpace(after)
	}
	return found
}

func (p *Process) keep(line string) {
	if p.log != nil {
		// A log that cannot be written must not stop the draining of the pipe, else the daemon blocks on stderr.
		if _, err := io.WriteString(p.log, line); err != nil {
			p.log = nil
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tail) == tailLines {
		copy(p.tail, p.tail[1:])
		p.tail = p.tail[:tailLines-1]
	}
	p.tail = append(p.tail, strings.TrimRight(line, "\n"))
}

// PID is the process id; it stays the same after the end.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and was waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitError tells how the process ended: nil for exit status 0 or while it runs.
func (p *Process) ExitError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waitErr
}

// Tail returns up to n of the last lines printed.
func (p *Process) Tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.tail[max(0, len(p.tail)-n):], "\n")
}

// Logged tells whether one of the lines still kept contains text.
func (p *Process) Logged(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.tail {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// Kill sends SIGKILL and waits for the end. Killing a process that is gone already is not an error.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// Stop sends SIGTERM and waits for a clean end; after timeout it kills and says so. The exit status is checked: anything but 0
// is an error.
func (p *Process) Stop(timeout time.Duration) error {
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.ExitError()
	case <-timer.C:
		return errors.Join(fmt.Errorf("not ended %v after SIGTERM", timeout), p.Kill())
	}
}
