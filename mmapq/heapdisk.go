package mmapq

import (
	"fmt"
	"io"
	"io/fs"
	"sort"
	"sync"
)

// HeapDisk keeps files on the Go heap, where the race detector sees every access (it is blind on mapped memory). What was written stays
// readable by a second Store opened on the same HeapDisk, which is how tests act out a SIGKILL: the first Store is abandoned.
type HeapDisk struct {
	mu    sync.Mutex
	files map[string]*heapFile
}

// NewHeapDisk returns an empty disk.
func NewHeapDisk() *HeapDisk { return &HeapDisk{files: map[string]*heapFile{}} }

type heapFile struct {
	mu   sync.Mutex
	buf  []byte           // CreateMapped and OpenFile
	wins map[int64][]byte // MapWindow: offset -> window
}

func noFile(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// CreateMapped implements Disk.
func (d *HeapDisk) CreateMapped(name string, size int) (*Mapping, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	f := &heapFile{buf: alignedBytes(size)}
	d.files[name] = f
	return &Mapping{Mem: f.buf}, nil
}

// OpenMapped implements Disk.
func (d *HeapDisk) OpenMapped(name string) (*Mapping, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil {
		return nil, noFile("open", name)
	}
	if len(f.buf) < headerSize {
		return nil, fmt.Errorf("%s: %d bytes: %w", name, len(f.buf), errShortFile)
	}
	return &Mapping{Mem: f.buf}, nil
}

// MapWindow implements Disk.
func (d *HeapDisk) MapWindow(name string, off int64, n, _ int) (*Mapping, error) {
	d.mu.Lock()
	f := d.files[name]
	if f == nil {
		f = &heapFile{wins: map[int64][]byte{}}
		d.files[name] = f
	}
	d.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.wins[off]
	if w == nil {
		w = alignedBytes(n)
		f.wins[off] = w
	}
	return &Mapping{Mem: w}, nil
}

// GrowWindow implements Disk.
func (d *HeapDisk) GrowWindow(string, int64, int, int) error { return nil }

// Punch implements Disk.
func (d *HeapDisk) Punch(name string, off int64, n int) error {
	d.mu.Lock()
	f := d.files[name]
	d.mu.Unlock()
	if f == nil {
		return noFile("punch", name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for o := range f.wins {
		if o >= off && o < off+int64(n) {
			delete(f.wins, o)
		}
	}
	return nil
}

// OpenFile implements Disk.
func (d *HeapDisk) OpenFile(name string, create bool) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil {
		if !create {
			return nil, noFile("open", name)
		}
		f = &heapFile{}
		d.files[name] = f
	}
	return f, nil
}

func (f *heapFile) Size() (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size(), nil
}

// size is Size with mu held.
func (f *heapFile) size() int64 {
	n := int64(len(f.buf))
	for off, w := range f.wins {
		n = max(n, off+int64(len(w)))
	}
	return n
}

func (f *heapFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := int(min(int64(len(p)), f.size()-off))
	if n <= 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	if off < int64(len(f.buf)) {
		copy(p[:n], f.buf[off:])
	}
	for at, w := range f.wins {
		if from, to := max(at, off), min(at+int64(len(w)), off+int64(n)); from < to {
			copy(p[from-off:to-off], w[from-at:])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *heapFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if need := int(off) + len(p); need > len(f.buf) {
		f.buf = append(f.buf, make([]byte, need-len(f.buf))...)
	}
	return copy(f.buf[off:], p), nil
}

// Reserve implements File.
func (f *heapFile) Reserve(int64) error { return nil }
func (f *heapFile) Sync() error         { return nil }
func (f *heapFile) Close() error        { return nil }

// Remove implements Disk.
func (d *HeapDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] == nil {
		return noFile("remove", name)
	}
	delete(d.files, name)
	return nil
}

// Rename implements Disk.
func (d *HeapDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[from]
	if f == nil {
		return noFile("rename", from)
	}
	delete(d.files, from)
	d.files[to] = f
	return nil
}

// List implements Disk.
func (d *HeapDisk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make([]string, 0, len(d.files))
	for n := range d.files {
		names = append(names, n)
	}
	sort.Strings(names)
	return names, nil
}

// SyncDir implements Disk.
func (d *HeapDisk) SyncDir() error { return nil }

// Space implements Disk.
func (d *HeapDisk) Space() (int64, error) { return 0, nil }

// Allocate implements Disk. Blocks without content need no memory here.
func (d *HeapDisk) Allocate(name string, _ int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] == nil {
		d.files[name] = &heapFile{}
	}
	return nil
}

// Anonymous implements Disk.
func (d *HeapDisk) Anonymous(size int) (*Mapping, error) {
	return &Mapping{Mem: alignedBytes(size)}, nil
}
