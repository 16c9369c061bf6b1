package mmapq

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
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
	moved  []nameChange            // since then
}

// nameChange is one operation on the directory: f got the name to, or what was called from lost it, or both.
type nameChange struct {
	from, to string
	f        *heapFile
}

func (c nameChange) apply(names map[string]*heapFile) {
	delete(names, c.from)
	if c.f != nil {
		names[c.to] = c.f
	}
}

func (d *crashDisk) move(c nameChange) {
	d.cmu.Lock()
	defer d.cmu.Unlock()
	d.moved = append(d.moved, c)
}

// creating calls f, which may make the named file.
func (d *crashDisk) creating(name string, f func() error) error {
	had := d.file(name) != nil
	err := f()
	if now := d.file(name); !had && now != nil {
		d.move(nameChange{to: name, f: now})
	}
	return err
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
	var m *Mapping
	err := d.creating(name, func() (err error) {
		m, err = d.HeapDisk.CreateMapped(name, size)
		return err
	})
	return d.mapped(name, m, err)
}

func (d *crashDisk) OpenMapped(name string) (*Mapping, error) {
	m, err := d.HeapDisk.OpenMapped(name)
	return d.mapped(name, m, err)
}

func (d *crashDisk) MapWindow(name string, off int64, n, alloc int) (*Mapping, error) {
	d.ask()
	var m *Mapping
	err := d.creating(name, func() (err error) {
		m, err = d.HeapDisk.MapWindow(name, off, n, alloc)
		return err
	})
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
	err := d.creating(name, func() error {
		_, err := d.HeapDisk.OpenFile(name, create)
		return err
	})
	if err != nil {
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
	err := d.HeapDisk.Remove(name)
	if err == nil {
		d.move(nameChange{from: name})
	}
	return err
}

func (d *crashDisk) Rename(from, to string) error {
	d.ask()
	f := d.file(from)
	err := d.HeapDisk.Rename(from, to)
	if err == nil {
		d.move(nameChange{from, to, f})
	}
	return err
}

func (d *crashDisk) Allocate(name string, n int64) error {
	d.ask()
	return d.creating(name, func() error { return d.HeapDisk.Allocate(name, n) })
}

func (d *crashDisk) SyncDir() error {
	d.ask()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cmu.Lock()
	defer d.cmu.Unlock()
	d.names, d.moved = maps.Clone(d.files), nil
	return nil
}

// drawNames returns the directory that a power cut leaves: the synced one with all, none, the first or any of the later changes. Caller holds cmu.
func (d *crashDisk) drawNames(r *rand.Rand) map[string]*heapFile {
	names := maps.Clone(d.names)
	if names == nil {
		names = map[string]*heapFile{}
	}
	how, first := r.IntN(4), 0
	switch how {
	case 1:
		first = len(d.moved)
	case 2:
		first = r.IntN(len(d.moved) + 1)
	}
	for i, c := range d.moved {
		if i < first || how == 3 && r.IntN(2) == 0 {
			c.apply(names)
		}
	}
	return names
}

// leak has the kernel write a few pages on its own.
func (d *crashDisk) leak(r *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cmu.Lock()
	defer d.cmu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[name]
		for _, off := range slices.Sorted(maps.Keys(f.wins)) {
			if w := f.wins[off]; r.IntN(8) == 0 {
				s := d.safe(f)
				s.wins[off] = keepPages(s.wins[off], w, 4096*r.IntN(len(w)/4096), 4096)
			}
		}
		if strings.HasSuffix(name, ".seg") && r.IntN(8) == 0 {
			s := d.safe(f)
			s.buf = keepPages(s.buf, f.buf, 4096*r.IntN(len(f.buf)/4096), 4096)
		}
	}
}

// afterCut returns what a power cut leaves. r == nil: only what was synced. Else every page or sector that was not is there or not as r draws,
// and so is every change of the directory.
func (d *crashDisk) afterCut(r *rand.Rand) *HeapDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cmu.Lock()
	defer d.cmu.Unlock()
	names := d.names
	step := 4096
	if r != nil {
		names = d.drawNames(r)
		step >>= 3 * r.IntN(2)
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
			g.buf = drawPages(r, g.buf, f.buf, step)
			for _, off := range slices.Sorted(maps.Keys(f.wins)) {
				w := g.wins[off]
				g.wins[off] = drawPages(r, append(w, make([]byte, len(f.wins[off])-len(w))...), f.wins[off], step) // a window is allocated when it is mapped
			}
			f.mu.Unlock()
			for off := range safe.wins {
				if f.wins[off] == nil && r.IntN(2) == 0 {
					delete(g.wins, off) // punched
				}
			}
		}
		g.buf = aligned(g.buf)
		for off, w := range g.wins {
			g.wins[off] = aligned(w)
		}
		left.files[name] = g
	}
	return left
}

// drawPages returns old, of which some parts of step bytes are those of now, and so may be the size or a part of the growth.
func drawPages(r *rand.Rand, old, now []byte, step int) []byte {
	if more := len(now) - len(old); more > 0 {
		switch r.IntN(4) {
		case 0:
		case 1:
			more = r.IntN(more)
			fallthrough
		default:
			old = append(old, make([]byte, more)...)
		}
	}
	for at := 0; at < min(len(old), len(now)); at += step {
		if r.IntN(2) == 0 {
			end := min(at+step, len(old), len(now))
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
