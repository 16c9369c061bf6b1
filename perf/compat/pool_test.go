package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A pool shares daemons between the conversations of a group that run with
// equal flags.
type pool struct {
	peer peer
	root string

	mu      sync.Mutex
	daemons map[string]*pooled
}

type pooled struct {
	once sync.Once
	d    *daemon
	err  error
}

func newPool(t *testing.T, p peer) *pool {
	t.Helper()
	pl := &pool{peer: p, root: shortTempDir(t), daemons: map[string]*pooled{}}
	t.Cleanup(func() {
		pl.mu.Lock()
		defer pl.mu.Unlock()
		for _, e := range pl.daemons {
			if e.d != nil {
				stopDaemon(t, e.d)
			}
		}
	})
	return pl
}

// stopDaemon ends a daemon, and requires a clean end of one that was not damaged.
func stopDaemon(t *testing.T, d *daemon) {
	t.Helper()
	stop := d.terminate
	if d.damaged {
		stop = d.kill
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// ownDaemon is a daemon for one test alone.
func ownDaemon(t *testing.T, p peer, flags ...string) *daemon {
	t.Helper()
	d, err := startDaemon(p, shortTempDir(t), flags)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopDaemon(t, d) })
	return d
}

// shortTempDir is a test's temporary folder under a short name, because a Unix
// socket's path may have no more than 107 bytes.
func shortTempDir(t *testing.T) string {
	t.Helper()
	long := t.TempDir()
	short := filepath.Join(os.TempDir(), fmt.Sprintf("compat-%d-%d", os.Getpid(), time.Now().UnixNano()%1e6))
	if err := os.Symlink(long, short); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(short); err != nil {
			t.Error(err)
		}
	})
	return short
}

func (pl *pool) shared(group string, flags []string) (*daemon, error) {
	key := group + ": " + strings.Join(flags, " ")
	pl.mu.Lock()
	e := pl.daemons[key]
	if e == nil {
		e = &pooled{}
		pl.daemons[key] = e
	}
	pl.mu.Unlock()
	e.once.Do(func() { e.d, e.err = startDaemon(pl.peer, pl.root, flags) })
	return e.d, e.err
}
