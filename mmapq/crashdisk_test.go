package mmapq

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

// crashDisk is a heap disk that knows what a power cut would leave: the pages, files and names that were synced, and of everything else
// whatever the kernel happened to have written.
type crashDisk struct {
	*HeapDisk
	before func() // called before every operation that changes something

	cmu    sync.Mutex
	synced map[*heapFile]*heapFile // what is safe of a file
	names  map[string]*heapFile    // the directory as last synced
}

func newCrashDisk() *crashDisk {
	return &crashDisk{HeapDisk: NewHeapDisk(), synced: map[*heapFile]*heapFile{}, names: map[string]*heapFile{}}
}

func (d *crashDisk) ask() {
	if d.before != nil {
		d.before()
	}
}

func (d *crashDisk) file(name string) *heapFile {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[name]
}

// safe returns the synced image of f. Caller holds cmu.
func (d *crashDisk) safe(f *heapFile) *heapFile {
	if d.synced[f] == nil {
		d.synced[f] = &heapFile{wins: map[int64][]byte{}}
	}
	return d.synced[f]
}

// keep copies the pages of [off, off+n) of from over those of to, which grows to the same size.
func keepPages(to, from []byte, off, n int) []byte {
	if len(to) < len(from) {
		to = append(to, make([]byte, len(from)-len(to))...)
	}
	lo, hi := off&^4095, min((off+n+4095)&^4095, len(from))
	copy(to[lo:hi], from[lo:hi])
	return to
}

func (d *crashDisk) mapped(name string, m *Mapping, err error) (*Mapping, error) {
	if err != nil {
		return nil, err
	}
	f := d.file(name)
	return &Mapping{Mem: m.Mem, sync: func(off, n int) error {
		d.ask()
		d.cmu.Lock()
		defer d.cmu.Unlock()
		s := d.safe(f)
		s.buf = keepPages(s.buf, f.buf, off, n)
		return nil
	}, open: func() (writer, error) { return crashWriter{d, m.Mem}, nil }}, nil
}

// crashWriter writes into a mapped file.
type crashWriter struct {
	d   *crashDisk
	mem []byte
}

func (w crashWriter) WriteAt(p []byte, off int64) (int, error) {
	w.d.ask()
	return copy(w.mem[off:], p), nil
}

func (w crashWriter) Close() error { return nil }

func (d *crashDisk) CreateMapped(name string, size int) (*Mapping, error) {
	d.ask()
	m, err := d.HeapDisk.CreateMapped(name, size)
	return d.mapped(name, m, err)
}

func (d *crashDisk) OpenMapped(name string) (*Mapping, error) {
	m, err := d.HeapDisk.OpenMapped(name)
	return d.mapped(name, m, err)
}

func (d *crashDisk) MapWindow(name string, off int64, n, alloc int) (*Mapping, error) {
	d.ask()
	m, err := d.HeapDisk.MapWindow(name, off, n, alloc)
	if err != nil {
		return nil, err
	}
	f := d.file(name)
	return &Mapping{Mem: m.Mem, sync: func(o, n int) error {
		d.ask()
		d.cmu.Lock()
		defer d.cmu.Unlock()
		s := d.safe(f)
		s.wins[off] = keepPages(s.wins[off], m.Mem, o, n)
		return nil
	}}, nil
}

func (d *crashDisk) Punch(name string, off int64, n int) error {
	d.ask()
	return d.HeapDisk.Punch(name, off, n)
}

type crashFile struct {
	*heapFile
	d *crashDisk
}

func (d *crashDisk) OpenFile(name string, create bool) (File, error) {
	d.ask()
	if _, err := d.HeapDisk.OpenFile(name, create); err != nil {
		return nil, err
	}
	return &crashFile{d.file(name), d}, nil
}

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.ask()
	return f.heapFile.WriteAt(p, off)
}

func (f *crashFile) Sync() error {
	f.d.ask()
	f.d.cmu.Lock()
	defer f.d.cmu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.d.safe(f.heapFile).buf = slices.Clone(f.buf)
	return nil
}

func (d *crashDisk) Remove(name string) error {
	d.ask()
	return d.HeapDisk.Remove(name)
}

func (d *crashDisk) Rename(from, to string) error {
	d.ask()
	return d.HeapDisk.Rename(from, to)
}

func (d *crashDisk) SyncDir() error {
	d.ask()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cmu.Lock()
	defer d.cmu.Unlock()
	d.names = maps.Clone(d.files)
	return nil
}

// afterCut returns what a power cut leaves. r == nil: only what was synced. Else every page that was not is there or not as r draws, and so are
// the names, all of them or none.
func (d *crashDisk) afterCut(r *rand.Rand) *HeapDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cmu.Lock()
	defer d.cmu.Unlock()
	names := d.names
	if r != nil && r.IntN(2) == 0 {
		names = d.files
	}
	left := NewHeapDisk()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := names[name]
		safe := d.safe(f)
		g := &heapFile{buf: slices.Clone(safe.buf), wins: map[int64][]byte{}}
		for off, w := range safe.wins {
			g.wins[off] = append(alignedBytes(0), w...)
		}
		if r != nil {
			f.mu.Lock()
			g.buf = drawPages(r, g.buf, f.buf)
			for _, off := range slices.Sorted(maps.Keys(f.wins)) {
				w := g.wins[off]
				g.wins[off] = drawPages(r, append(w, make([]byte, len(f.wins[off])-len(w))...), f.wins[off]) // a window is allocated when it is mapped
			}
			f.mu.Unlock()
		}
		g.buf = aligned(g.buf)
		for off, w := range g.wins {
			g.wins[off] = aligned(w)
		}
		left.files[name] = g
	}
	return left
}

func drawPages(r *rand.Rand, old, now []byte) []byte {
	if len(old) < len(now) && r.IntN(3) > 0 {
		old = append(old, make([]byte, len(now)-len(old))...)
	}
	for at := 0; at < min(len(old), len(now)); at += 4096 {
		if r.IntN(2) == 0 {
			end := min(at+4096, len(old), len(now))
			copy(old[at:end], now[at:end])
		}
	}
	return old
}

func aligned(b []byte) []byte {
	c := alignedBytes(len(b))
	copy(c, b)
	return c
}
