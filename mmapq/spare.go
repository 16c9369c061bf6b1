package mmapq

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
)

// The spare is a file of allocated blocks that nothing is stored in. When the file system is full it is given up step by step for what
// consuming needs (manifest, channel state, delays), so that messages can be finished and their segments freed, and up to its half for a compacted
// segment, which frees several. Segments to publish into never come out of it: while it is not whole, new ones are refused, and with them
// publishing. It is made whole again as soon as there is space.
const spareName = "nsqloop.reserve"

const (
	spareDefault = 64 << 20
	spareShare   = 32       // the spare is at most this part of the file system
	spareUnit    = 64 << 10 // its size is a multiple
	spareSteps   = 8        // in which it is given up
)

// isFull tells the one failure that passes by itself: no space, or no quota.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// IsFull tells an error that means that the disk has no space.
func IsFull(err error) bool { return isFull(err) }

// spare is a Disk whose small allocations may use the reserve. Everything else goes to the disk below.
type spare struct {
	Disk
	want int64        // fixed by open
	have atomic.Int64 // bytes allocated now

	mu sync.Mutex // orders changes of the file
}

// open finds out how large the spare is to be and makes it, as far as there is space. An error means that this file system cannot be used.
func (s *spare) open(bytes int64) error {
	total, err := s.Space()
	if err != nil {
		return err
	}
	if total > 0 {
		bytes = min(bytes, total/spareShare)
	}
	s.want = max(bytes, 0) &^ (spareUnit - 1)
	err = s.Allocate(spareName, max(s.want, headerSize)) // one page at least: what cannot be done is found out now
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("this file system cannot allocate space ahead (fallocate), without which a full disk would end the process: %w", err)
	case isFull(err):
		n, err := s.size()
		s.have.Store(n)
		return err
	case err != nil:
		return err
	}
	s.have.Store(s.want)
	if s.want == 0 {
		return s.Remove(spareName)
	}
	return nil
}

// size is what an earlier life left of the spare.
func (s *spare) size() (n int64, err error) {
	f, err := s.Disk.OpenFile(spareName, false)
	if isNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err = f.Size()
	return min(n, s.want), errors.Join(err, f.Close())
}

func (s *spare) whole() bool { return s.have.Load() == s.want }

// give makes some room by giving up a part of the spare; false when nothing is left of it. On a loop it costs one truncation, and only on a
// full disk.
func (s *spare) give() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.have.Load()
	if have == 0 {
		return false
	}
	left := max(0, have-max(s.want/spareSteps, spareUnit))
	if err := s.Allocate(spareName, left); err != nil {
		return false
	}
	s.have.Store(left)
	return true
}

// restore makes the spare whole again, and finds out whether extra bytes would fit beside it.
func (s *spare) restore(extra int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have.Load() == s.want && extra == 0 {
		return nil
	}
	if err := s.Allocate(spareName, s.want+extra); err != nil {
		return err
	}
	s.have.Store(s.want)
	if extra == 0 {
		return nil
	}
	if s.want == 0 {
		return s.Remove(spareName)
	}
	return s.Allocate(spareName, s.want)
}

// retry runs f again as long as it fails for want of space and the spare has some.
func (s *spare) retry(f func() error) error {
	for {
		err := f()
		if !isFull(err) || !s.give() {
			return err
		}
	}
}

// retryFor is retry for a file of n bytes that frees more than it takes. It leaves half of what the spare has to what is small.
func (s *spare) retryFor(n int64, f func() error) error {
	most := s.lendable()
	least := s.have.Load() - most
	for {
		err := f()
		if !isFull(err) || n > most || s.have.Load() <= least || !s.give() {
			return err
		}
	}
}

// lendable is how large a file may be that retryFor makes on a full disk.
func (s *spare) lendable() int64 { return s.have.Load() / 2 }

func (s *spare) MapWindow(name string, off int64, n, alloc int) (m *Mapping, err error) {
	err = s.retry(func() error {
		m, err = s.Disk.MapWindow(name, off, n, alloc)
		return err
	})
	return m, err
}

func (s *spare) GrowWindow(name string, off int64, from, to int) error {
	return s.retry(func() error { return s.Disk.GrowWindow(name, off, from, to) })
}

func (s *spare) OpenFile(name string, create bool) (f File, err error) {
	err = s.retry(func() error {
		f, err = s.Disk.OpenFile(name, create)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &spareFile{f, s}, nil
}

type spareFile struct {
	File
	s *spare
}

func (f *spareFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.s.retry(func() error {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

// WithSpare runs f, which writes a small file outside the log; when that fails for want of space it is run again with room from the spare.
func (st *Store) WithSpare(f func() error) error { return st.spare.retry(f) }

// noRoom is why no new segment can be made: kept for Health until there is room again.
type noRoom struct {
	err  error
	need int64 // bytes that would help
}

// Full is why publishing is refused for want of space, or nil. It goes by itself.
func (st *Store) Full() error {
	if p := st.full.Load(); p != nil {
		return p.err
	}
	return nil
}

// makeRoom is called before a segment is made: first the spare is made whole, from the pool of freed segments if need be.
func (st *Store) makeRoom() error {
	err := st.spare.restore(0)
	for isFull(err) && st.dropPooled() {
		err = st.spare.restore(0)
	}
	return err
}

// dropPooled removes the file of one freed segment; false when there is none.
func (st *Store) dropPooled() bool {
	s := st.pool.any()
	if s != nil {
		st.dropSlot(s)
	}
	return s != nil
}

// CheckSpace looks whether a full disk has space again. Called about once a second by the reclaimer.
func (st *Store) CheckSpace() {
	p := st.full.Load()
	need := int64(0)
	if p != nil {
		need = p.need
	} else if st.spare.whole() {
		return
	}
	switch err := st.spare.restore(need); {
	case err == nil && p != nil:
		if st.full.CompareAndSwap(p, nil) {
			st.warn("there is space on the disk again")
		}
	case err != nil && !isFull(err):
		st.warn("the disk reserve cannot be made whole: %v", err)
	}
}
