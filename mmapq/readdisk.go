//go:build linux

package mmapq

import (
	"errors"
	"fmt"
	"os"

	"github.com/edsrzf/mmap-go"
)

var errReadOnly = errors.New("only read here")

// ReadOnlyDisk is a RealDisk that cannot change anything: files are opened for reading, a store into a mapping faults.
type ReadOnlyDisk struct{ *RealDisk }

// NewReadOnlyDisk returns the disk for dir.
func NewReadOnlyDisk(dir string) ReadOnlyDisk { return ReadOnlyDisk{NewRealDisk(dir)} }

// OpenMapped implements Disk.
func (d ReadOnlyDisk) OpenMapped(name string) (m *Mapping, err error) {
	f, err := os.Open(d.path(name))
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
	mm, err := mmap.MapRegion(f, int(st.Size()), mmap.RDONLY, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("mmap %s: %w", f.Name(), err)
	}
	return &Mapping{Mem: mm, unmap: func() error { return mm.Unmap() }}, nil
}

// OpenFile implements Disk; create is refused.
func (d ReadOnlyDisk) OpenFile(name string, create bool) (File, error) {
	if create {
		return nil, errReadOnly
	}
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	return realFile{f}, nil
}

// CreateMapped implements Disk: refused, like everything else that changes a file.
func (d ReadOnlyDisk) CreateMapped(string, int) (*Mapping, error) { return nil, errReadOnly }

// MapWindow implements Disk.
func (d ReadOnlyDisk) MapWindow(string, int64, int, int) (*Mapping, error) { return nil, errReadOnly }

// GrowWindow implements Disk.
func (d ReadOnlyDisk) GrowWindow(string, int64, int, int) error { return errReadOnly }

// Allocate implements Disk.
func (d ReadOnlyDisk) Allocate(string, int64) error { return errReadOnly }

// Punch implements Disk.
func (d ReadOnlyDisk) Punch(string, int64, int) error { return errReadOnly }

// Remove implements Disk.
func (d ReadOnlyDisk) Remove(string) error { return errReadOnly }

// Rename implements Disk.
func (d ReadOnlyDisk) Rename(string, string) error { return errReadOnly }
