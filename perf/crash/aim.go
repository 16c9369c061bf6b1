package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// crashPoint is one of the places where a build with the tag crashpoints writes a byte. mmapq/crashpoint.go has the same table; a test holds
// the two together.
type crashPoint struct {
	sign byte
	name string
	rare bool // at most a few times a round: the first one is taken
}

var crashPoints = []crashPoint{
	{'a', "seal", false}, {'b', "activate", false}, {'c', "recycle", false}, {'d', "free", false}, {'e', "freed", false},
	{'f', "manifest", false}, {'g', "manifest-done", false}, {'h', "rewrite", true}, {'i', "rewritten", true},
	{'j', "sync", false}, {'k', "sync-data", false}, {'l', "synced", false}, {'m', "topic-gone", true}, {'n', "channel-gone", false},
	{'o', "empty", false}, {'p', "floor", false}, {'q', "state", false}, {'r', "punch", true}, {'s', "delay", false},
	{'t', "delays-turn", true}, {'u', "delays-past", true}, {'v', "recover", true}, {'w', "close", true},
	{'x', "compact", true}, {'y', "compacted", true},
}

const (
	pointsVar = "NSQLOOP_CRASHPOINTS"
	aimLate   = 200 * time.Microsecond // the kill follows the point within this, and what waking up takes
	aimNth    = 30
)

// aim kills the daemon of one round soon after it has reached a point for the nth time.
type aim struct {
	point crashPoint
	nth   int
	late  time.Duration

	pid   atomic.Int64
	fired atomic.Bool
	read  int // reading end of the pipe
	done  chan struct{}
}

// drawAim chooses what to aim at.
func drawAim(random *rand.Rand) *aim {
	a := &aim{point: crashPoints[random.IntN(len(crashPoints))], nth: 1 + random.IntN(aimNth), late: time.Duration(random.Int64N(int64(aimLate)))}
	if a.point.rare {
		a.nth = 1
	}
	return a
}

// start opens the pipe, whose writing end goes to the daemon, and watches it until every writing end is closed.
func (a *aim) start() (*os.File, error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	a.read, a.done = fds[0], make(chan struct{})
	go a.watch()
	return os.NewFile(uintptr(fds[1]), "crash points"), nil
}

// watch reads with plain blocking calls: they wake sooner than the runtime's poller.
func (a *aim) watch() {
	defer close(a.done)
	buf := make([]byte, 64<<10)
	for left := a.nth; ; {
		n, err := syscall.Read(a.read, buf)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if n <= 0 {
			return
		}
		if left <= 0 {
			continue
		}
		for _, sign := range buf[:n] {
			if sign == a.point.sign {
				left--
			}
		}
		if left <= 0 {
			a.fire()
		}
	}
}

// hit tells whether the daemon was killed; nil never is.
func (a *aim) hit() bool { return a != nil && a.fired.Load() }

func (a *aim) fire() {
	for began := time.Now(); time.Since(began) < a.late; {
		// A sleep would be ten times as long as what is waited for.
	}
	if pid := int(a.pid.Load()); pid > 0 {
		a.fired.Store(true)
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself, which the round finds out
	}
}

// stop ends the watching. The daemon is gone.
func (a *aim) stop() error {
	<-a.done
	return syscall.Close(a.read)
}

// aims counts what was hit.
type aims map[string]int

func (a aims) String() string {
	var list []string
	for name, n := range a {
		list = append(list, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func (a *aim) String() string {
	switch {
	case a == nil:
		return "not aimed"
	case a.hit():
		return fmt.Sprintf("killed %v after %s %d", a.late, a.point.name, a.nth)
	}
	return fmt.Sprintf("%s %d not reached", a.point.name, a.nth)
}
