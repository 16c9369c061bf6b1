package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CPU is the time the threads of the process have spent on a processor since exec, from /proc/PID/task/*/schedstat: nanoseconds,
// where utime and stime count ticks of 10 ms. Threads that have ended are not in it; the Go runtime keeps its threads.
func (p *Process) CPU() (time.Duration, error) { return CPU(p.PID()) }

// CPU is Process.CPU of any process, this one included.
func CPU(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(tasks) == 0 {
		return 0, fmt.Errorf("no process %d", pid)
	}
	var sum time.Duration
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if errors.Is(err, fs.ErrNotExist) {
			continue // this thread ended between the two calls
		}
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", task, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// Memory is what a process holds, in bytes.
type Memory struct {
	Anon   int64 // heap, stacks and everything else without a file: what the process costs for good
	File   int64 // resident pages of mapped files: the kernel may take them back
	Shared int64 // resident pages of shared memory and tmpfs
}

// Memory reads /proc/PID/status.
func (p *Process) Memory() (Memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return Memory{}, err
	}
	var m Memory
	fields := map[string]*int64{"RssAnon:": &m.Anon, "RssFile:": &m.File, "RssShmem:": &m.Shared}
	found := 0
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) != 3 || fields[words[0]] == nil {
			continue
		}
		kib, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil {
			return Memory{}, err
		}
		*fields[words[0]] = kib << 10
		found++
	}
	if found != len(fields) {
		return Memory{}, fmt.Errorf("/proc/%d/status lacks the resident sizes", p.PID())
	}
	return m, nil
}
