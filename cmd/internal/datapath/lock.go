// Package datapath guards the directory that holds a daemon's data: one process at a time, and none of another program's queues
// left behind unread.
package datapath

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock is the exclusive hold on a data path. It lasts until Release or the end of the process, however that ends.
type Lock struct {
	dir *os.File
}

// Acquire locks dir without waiting. The lock is an flock on the directory itself, so a stock nsqd and this one exclude each other.
// The error texts are the stock daemon's.
func Acquire(dir string) (*Lock, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("failed to lock data-path: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, closing(f, fmt.Errorf("failed to lock data-path: cannot flock directory %s - %w (possibly in use by another instance of nsqd)", dir, err))
	}
	info, err := f.Stat()
	if err != nil {
		return nil, closing(f, fmt.Errorf("failed to lock data-path: %w", err))
	}
	if !info.IsDir() {
		return nil, closing(f, fmt.Errorf("failed to lock data-path: %s is not a directory", dir))
	}
	return &Lock{dir: f}, nil
}

// Release gives the data path free.
func (l *Lock) Release() error {
	// Closing the only descriptor of the open file ends the flock.
	return l.dir.Close()
}

func closing(f *os.File, err error) error {
	if cerr := f.Close(); cerr != nil {
		return fmt.Errorf("%w; then %w", err, cerr)
	}
	return err
}
