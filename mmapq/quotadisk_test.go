package mmapq

import (
	"io/fs"
	"sync"
	"syscall"
)

// quotaDisk gives a disk so many bytes. Files are charged by the page, windows for what of them is allocated.
type quotaDisk struct {
	Disk
	total int64

	qmu     sync.Mutex
	ballast int64 // what other programs take
	used    map[string]map[int64]int64
	opened  []*quotaFile
}

func newQuotaDisk(total int64) *quotaDisk {
	return &quotaDisk{Disk: NewHeapDisk(), total: total, used: map[string]map[int64]int64{}}
}

// left is how many bytes are free.
func (d *quotaDisk) left() int64 {
	d.qmu.Lock()
	defer d.qmu.Unlock()
	return d.free()
}

func (d *quotaDisk) free() int64 {
	n := d.total - d.ballast
	for _, parts := range d.used {
		for _, b := range parts {
			n -= b
		}
	}
	return n
}

// fill has other programs take all but n bytes of what is free.
func (d *quotaDisk) fill(n int64) {
	d.qmu.Lock()
	defer d.qmu.Unlock()
	d.ballast += d.free() - n
}

func (d *quotaDisk) drain() {
	d.qmu.Lock()
	defer d.qmu.Unlock()
	d.ballast = 0
}

// charge brings part off of name to at least n bytes, or to exactly n.
func (d *quotaDisk) charge(name string, off, n int64, exactly bool) error {
	n = (n + 4095) &^ 4095
	d.qmu.Lock()
	defer d.qmu.Unlock()
	parts := d.used[name]
	if parts == nil {
		parts = map[int64]int64{}
		d.used[name] = parts
	}
	more := n - parts[off]
	if more > 0 && more > d.free() {
		return &fs.PathError{Op: "allocate", Path: name, Err: syscall.ENOSPC}
	}
	if more > 0 || exactly {
		parts[off] = n
	}
	return nil
}

func (d *quotaDisk) CreateMapped(name string, size int) (*Mapping, error) {
	if err := d.charge(name, 0, int64(size), true); err != nil {
		return nil, err
	}
	return d.Disk.CreateMapped(name, size)
}

func (d *quotaDisk) MapWindow(name string, off int64, n, alloc int) (*Mapping, error) {
	if err := d.charge(name, off, int64(alloc), false); err != nil {
		return nil, err
	}
	return d.Disk.MapWindow(name, off, n, alloc)
}

func (d *quotaDisk) GrowWindow(name string, off int64, from, to int) error {
	return d.charge(name, off, int64(to), false)
}

func (d *quotaDisk) Punch(name string, off int64, n int) error {
	if err := d.charge(name, off, 0, true); err != nil {
		return err
	}
	return d.Disk.Punch(name, off, n)
}

func (d *quotaDisk) Remove(name string) error {
	d.qmu.Lock()
	delete(d.used, name)
	d.qmu.Unlock()
	return d.Disk.Remove(name)
}

func (d *quotaDisk) Rename(from, to string) error {
	d.qmu.Lock()
	if d.used[from] != nil {
		d.used[to] = d.used[from]
		delete(d.used, from)
	}
	for _, f := range d.opened {
		if f.name == from {
			f.name = to
		}
	}
	d.qmu.Unlock()
	return d.Disk.Rename(from, to)
}

func (d *quotaDisk) Space() (int64, error) { return d.total, nil }

func (d *quotaDisk) Allocate(name string, n int64) error {
	if err := d.charge(name, 0, n, true); err != nil {
		return err
	}
	return d.Disk.Allocate(name, n)
}

func (d *quotaDisk) OpenFile(name string, create bool) (File, error) {
	f, err := d.Disk.OpenFile(name, create)
	if err != nil {
		return nil, err
	}
	d.qmu.Lock()
	defer d.qmu.Unlock()
	q := &quotaFile{f, d, name}
	d.opened = append(d.opened, q)
	return q, nil
}

type quotaFile struct {
	File
	d    *quotaDisk
	name string
}

func (f *quotaFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.d.charge(f.name, 0, off+int64(len(p)), false); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *quotaFile) Reserve(n int64) error { return f.d.charge(f.name, 0, n, false) }

// Size of the spare, which holds nothing here, is what it is charged for.
func (f *quotaFile) Size() (int64, error) {
	if f.name != spareName {
		return f.File.Size()
	}
	f.d.qmu.Lock()
	defer f.d.qmu.Unlock()
	return f.d.used[f.name][0], nil
}
