package mmapq

import (
	"errors"
	"io"
)

// errShortFile is what OpenMapped returns for a file that is shorter than a segment's header.
var errShortFile = errors.New("too short for a segment")

// Disk is the seam between the log and a file system: one flat directory of files named by ids. Three implementations are meant to exist:
// the real one (RealDisk), one on the Go heap that the race detector can see (HeapDisk), and fault-injecting ones for tests.
// Every method may block and is never called from an event loop, except the small window growth named at State.ensure.
type Disk interface {
	// CreateMapped makes a new file of exactly size bytes whose blocks are allocated (never sparse: a store into a hole of a full disk would be
	// a signal) and maps it whole. It reads as zeros. On failure nothing is left behind.
	CreateMapped(name string, size int) (*Mapping, error)
	// OpenMapped maps an existing file whole.
	OpenMapped(name string) (*Mapping, error)
	// MapWindow maps bytes [off, off+n) of the named file, creating the file if missing. The first alloc bytes of the window are allocated; the
	// rest of the mapping must not be touched before a later GrowWindow.
	MapWindow(name string, off int64, n, alloc int) (*Mapping, error)
	// GrowWindow allocates bytes [off+from, off+to) of the named file.
	GrowWindow(name string, off int64, from, to int) error
	// Punch gives the blocks of [off, off+n) back to the file system; they read as zero afterwards.
	Punch(name string, off int64, n int) error
	// OpenFile opens a plain file for appending by offset (the manifest), creating it if create is set.
	OpenFile(name string, create bool) (File, error)
	Remove(name string) error
	Rename(from, to string) error
	List() ([]string, error)
	// SyncDir makes creations, renames and removals durable.
	SyncDir() error
	// Space returns the size of the whole file system in bytes, 0 when it has no bound.
	Space() (int64, error)
	// Allocate makes the named file n bytes long with allocated blocks, creating, growing or shrinking it. A file that could not grow keeps its
	// size. The error is errors.ErrUnsupported where blocks cannot be allocated ahead.
	Allocate(name string, n int64) error
	// Anonymous returns zeroed memory that nothing is left of when it is unmapped or the process ends, for ephemeral topics. A disk may stand behind
	// it, and be full.
	Anonymous(size int) (*Mapping, error)
}

// File is a plain file that is written by offset and never mapped.
type File interface {
	io.ReaderAt
	io.WriterAt
	Size() (int64, error)
	// Reserve allocates blocks for the first n bytes and leaves the size as it is: writes there need no space any more.
	Reserve(n int64) error
	Sync() error
	Close() error
}

// Mapping is memory shared with a file. Mem stays valid until Unmap; nobody may touch it afterwards (segments are pinned, see Segment.pin).
type Mapping struct {
	Mem   []byte
	sync  func(off, n int) error
	unmap func() error
	warm  func(off, n int) error
	// resident tells whether a load from Mem[off:off+n] would need the disk no more; nil: it never does.
	resident func(off, n int) bool
	open     func() (writer, error) // nil: WriteAt stores into Mem
	writer   writer                 // between OpenWriter and CloseWriter
}

// writer is a descriptor of the file behind a mapping.
type writer interface {
	io.WriterAt
	io.Closer
}

// OpenWriter prepares for WriteAt; again is harmless. The owner of the mapping sees to it that nobody calls it, WriteAt and CloseWriter at once.
func (m *Mapping) OpenWriter() (err error) {
	if m.writer == nil && m.open != nil {
		m.writer, err = m.open()
	}
	return err
}

// WriteAt changes Mem[off:off+len(p)] by a system call: it costs no page fault, and failure is an error instead of a signal. Several goroutines
// may write ranges of their own.
func (m *Mapping) WriteAt(p []byte, off int) error {
	if m.writer != nil {
		_, err := m.writer.WriteAt(p, int64(off))
		return err
	}
	copy(m.Mem[off:off+len(p)], p)
	return nil
}

// CloseWriter gives the descriptor back; again is harmless.
func (m *Mapping) CloseWriter() error {
	w := m.writer
	if w == nil {
		return nil
	}
	m.writer = nil
	return w.Close()
}

// SyncRange makes the pages that hold Mem[off:off+n] durable. The caller must not retry after an error: the kernel reports a failed
// write-back once and then calls the pages clean.
func (m *Mapping) SyncRange(off, n int) error {
	if m.sync == nil || n <= 0 {
		return nil
	}
	return m.sync(off, n)
}

// Populate faults the pages of Mem[off:off+n] in for writing, so that a later store by an event loop does not wait.
func (m *Mapping) Populate(off, n int) error {
	if m.warm == nil {
		return nil
	}
	return m.warm(off, n)
}

// Unmap ends the mapping.
func (m *Mapping) Unmap() error {
	err := m.CloseWriter()
	if m.unmap == nil {
		return err
	}
	f := m.unmap
	m.unmap = nil
	return errors.Join(f(), err)
}
