//go:build linux

package mmapq

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// RealDisk keeps its files in one directory of a Linux file system.
type RealDisk struct{ dir string }

// NewRealDisk returns the disk for dir, which must exist.
func NewRealDisk(dir string) *RealDisk { return &RealDisk{dir: dir} }

func (d *RealDisk) path(name string) string { return filepath.Join(d.dir, name) }

// mapFile maps [off, off+n) of f shared. The descriptor is not needed afterwards: pages are synced by msync on the mapping that exists since
// creation, never by reopening, and that covers what another descriptor wrote into them.
func mapFile(f *os.File, off int64, n int) (*Mapping, error) {
	mm, err := mmap.MapRegion(f, n, mmap.RDWR, 0, off)
	if err != nil {
		return nil, fmt.Errorf("mmap %s: %w", f.Name(), err)
	}
	return &Mapping{
		Mem:   mm,
		sync:  func(o, l int) error { return syncPages(mm, o, l) },
		warm:  func(o, l int) error { return warmPages(mm, o, l) },
		unmap: func() error { return mm.Unmap() },
		open:  func() (writer, error) { return os.OpenFile(f.Name(), os.O_WRONLY, 0) },

		resident: func(o, l int) bool { return inMemory(mm, o, l) },
	}, nil
}

var pageSize = os.Getpagesize()

func pageRange(mem []byte, off, n int) []byte {
	from := off &^ (pageSize - 1)
	to := min((off+n+pageSize-1)&^(pageSize-1), len(mem))
	return mem[from:to]
}

func syncPages(mem []byte, off, n int) error {
	if err := unix.Msync(pageRange(mem, off, n), unix.MS_SYNC); err != nil {
		return os.NewSyscallError("msync", err)
	}
	return nil
}

const madvPopulateWrite = 23 // Linux 5.14

// warmPages faults pages in for writing. Kernels without the advice get one read-modify-write per page, on the caller's goroutine (never a
// loop's), which has the same effect.
func warmPages(mem []byte, off, n int) error {
	p := pageRange(mem, off, n)
	err := unix.Madvise(p, madvPopulateWrite)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EINVAL) {
		return os.NewSyscallError("madvise", err)
	}
	for i := 0; i < len(p); i += pageSize {
		touchPage(p, i)
	}
	return nil
}

// CreateMapped implements Disk.
func (d *RealDisk) CreateMapped(name string, size int) (m *Mapping, err error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err = allocate(f, 0, int64(size)); err != nil {
		return nil, err
	}
	return mapFile(f, 0, size)
}

func allocate(f *os.File, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, off, n)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
		return nil
	}
}

// OpenMapped implements Disk.
func (d *RealDisk) OpenMapped(name string) (m *Mapping, err error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() < int64(headerSize) {
		return nil, fmt.Errorf("%s: %d bytes: %w", f.Name(), st.Size(), errShortFile)
	}
	return mapFile(f, 0, int(st.Size()))
}

// MapWindow implements Disk.
func (d *RealDisk) MapWindow(name string, off int64, n, alloc int) (m *Mapping, err error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if alloc > 0 {
		if err = allocate(f, off, int64(alloc)); err != nil {
			return nil, err
		}
	}
	return mapFile(f, off, n)
}

// GrowWindow implements Disk.
func (d *RealDisk) GrowWindow(name string, off int64, from, to int) (err error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return allocate(f, off+int64(from), int64(to-from))
}

// Punch implements Disk.
func (d *RealDisk) Punch(name string, off int64, n int) (err error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, int64(n)); err != nil {
		return &os.PathError{Op: "punch", Path: f.Name(), Err: err}
	}
	return nil
}

// OpenFile implements Disk.
func (d *RealDisk) OpenFile(name string, create bool) (File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(d.path(name), flags, 0o600)
	if err != nil {
		return nil, err
	}
	return realFile{f}, nil
}

type realFile struct{ *os.File }

func (f realFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Reserve implements File.
func (f realFile) Reserve(n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, n)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return os.NewSyscallError("fallocate", err)
	}
}

// Space implements Disk.
func (d *RealDisk) Space() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: d.dir, Err: err}
	}
	return int64(st.Blocks) * st.Bsize, nil
}

// Allocate implements Disk.
func (d *RealDisk) Allocate(name string, n int64) (err error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if n < st.Size() {
		return f.Truncate(n)
	}
	if n == 0 {
		return nil
	}
	if err = allocate(f, 0, n); err != nil {
		return errors.Join(err, f.Truncate(st.Size())) // some file systems keep what they found
	}
	return nil
}

// Remove implements Disk.
func (d *RealDisk) Remove(name string) error { return os.Remove(d.path(name)) }

// Rename implements Disk.
func (d *RealDisk) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }

// List implements Disk.
func (d *RealDisk) List() ([]string, error) {
	ents, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(ents))
	for _, e := range ents {
		names = append(names, e.Name())
	}
	return names, nil
}

// SyncDir implements Disk.
func (d *RealDisk) SyncDir() (err error) {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
}

// Anonymous implements Disk with a file that never had a name, so that what waits long goes to the disk instead of filling memory, and is gone with
// the process. Where the file system has no such files it is memory.
func (d *RealDisk) Anonymous(size int) (m *Mapping, err error) {
	f, err := os.OpenFile(d.dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		return anonymousMemory(size)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err = allocate(f, 0, int64(size)); err != nil {
		return nil, err
	}
	if m, err = mapFile(f, 0, size); err != nil {
		return nil, err
	}
	m.open, m.sync = nil, nil // no name to open it by, and nothing to keep
	return m, nil
}

func anonymousMemory(size int) (*Mapping, error) {
	mm, err := mmap.MapRegion(nil, size, mmap.RDWR, mmap.ANON, 0)
	if err != nil {
		return nil, fmt.Errorf("mmap anonymous: %w", err)
	}
	return &Mapping{Mem: mm, unmap: func() error { return mm.Unmap() }}, nil
}
