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

	"golang.org/x/sys/unix"
)

// CPU is the time the process has spent on processors since exec, in the kernel's own nanoseconds (utime and stime count ticks of
// 10 ms). Threads that have ended are in it.
func (p *Process) CPU() (time.Duration, error) { return CPU(p.PID()) }

// CPU is Process.CPU of any process, this one included. It reads the clock of the process: the sum that
// /proc/PID/task/*/schedstat gives, and what the kernel kept of ended threads, which have no schedstat any more.
func CPU(pid int) (time.Duration, error) {
	const perProcessScheduled = 2 // CPUCLOCK_SCHED of a whole process, as clock_getcpuclockid(3) composes it
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcessScheduled), &at); err != nil {
		return 0, fmt.Errorf("clock of process %d: %w", pid, err)
	}
	return time.Duration(at.Nano()), nil
}

// LiveThreadsCPU is the time of those threads of a process that have not ended, from /proc/PID/task/*/schedstat.
func LiveThreadsCPU(pid int) (time.Duration, error) {
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

// Busy is the time all processors of the machine have been busy since boot, from /proc/stat, in ticks of 10 ms: user, nice, system and
// both kinds of interrupts; not what a hypervisor took away.
func Busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	words := strings.Fields(line)
	if len(words) < 8 || words[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %.60q", line)
	}
	const tick = time.Second / 100 // USER_HZ is 100 on every platform this runs on
	var sum time.Duration
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseInt(words[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}
