package mmapq

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Operations of a faultDisk. Those that hurt differently are told apart by the file's name.
const (
	opCreate   = "create"
	opOpen     = "open"
	opWindow   = "window"
	opGrow     = "grow"
	opPunch    = "punch"
	opFile     = "file"
	opWrite    = "write"
	opSync     = "sync"  // of a plain file
	opMsync    = "msync" // of mapped pages
	opPopulate = "populate"
	opPwrite   = "pwrite" // into a mapped file
	opRemove   = "remove"
	opRename   = "rename"
	opSyncDir  = "syncdir"
)

// faultDisk asks before every operation whether it shall fail. It also notes what must never happen: a sync of pages that are not mapped any
// more, which ends a process on a real disk.
type faultDisk struct {
	Disk
	before func(op, name string) error // may block; nil error: go on
	wrong  atomic.Pointer[string]
	short  bool // a failing write stores its first half
}

func (d *faultDisk) ask(op, name string) error {
	if d.before == nil {
		return nil
	}
	return d.before(op, name)
}

func (d *faultDisk) wrap(name string, m *Mapping, err error) (*Mapping, error) {
	if err != nil {
		return nil, err
	}
	var gone atomic.Bool
	check := func(op string) error {
		if gone.Load() {
			s := fmt.Sprintf("%s of %s after it was unmapped", op, name)
			d.wrong.Store(&s)
			return errors.New(s)
		}
		return d.ask(op, name)
	}
	return &Mapping{
		Mem: m.Mem,
		sync: func(off, n int) error {
			if off < 0 || n < 0 || off+n > len(m.Mem) {
				s := fmt.Sprintf("msync of [%d, %d) of the %d bytes of %s", off, off+n, len(m.Mem), name)
				d.wrong.Store(&s)
			}
			if err := check(opMsync); err != nil {
				return err
			}
			return m.SyncRange(off, n)
		},
		warm: func(off, n int) error {
			if err := check(opPopulate); err != nil {
				return err
			}
			return m.Populate(off, n)
		},
		unmap: func() error {
			gone.Store(true)
			return m.Unmap()
		},
		open: func() (writer, error) {
			if err := check(opOpen); err != nil {
				return nil, err
			}
			return &faultWriter{m, check, d.short}, m.OpenWriter()
		},
	}, nil
}

// faultWriter writes into a mapped file.
type faultWriter struct {
	*Mapping
	check func(op string) error
	short bool
}

func (w *faultWriter) WriteAt(p []byte, off int64) (int, error) {
	err := w.check(opPwrite)
	if err == nil {
		return len(p), w.Mapping.WriteAt(p, int(off))
	}
	n := 0
	if w.short {
		n = len(p) / 2
		err = errors.Join(err, w.Mapping.WriteAt(p[:n], int(off)))
	}
	return n, err
}

func (w *faultWriter) Close() error { return w.CloseWriter() }

func (d *faultDisk) CreateMapped(name string, size int) (*Mapping, error) {
	if err := d.ask(opCreate, name); err != nil {
		return nil, err
	}
	m, err := d.Disk.CreateMapped(name, size)
	return d.wrap(name, m, err)
}

func (d *faultDisk) OpenMapped(name string) (*Mapping, error) {
	if err := d.ask(opOpen, name); err != nil {
		return nil, err
	}
	m, err := d.Disk.OpenMapped(name)
	return d.wrap(name, m, err)
}

func (d *faultDisk) MapWindow(name string, off int64, n, alloc int) (*Mapping, error) {
	if err := d.ask(opWindow, name); err != nil {
		return nil, err
	}
	m, err := d.Disk.MapWindow(name, off, n, alloc)
	return d.wrap(name, m, err)
}

func (d *faultDisk) GrowWindow(name string, off int64, from, to int) error {
	if err := d.ask(opGrow, name); err != nil {
		return err
	}
	return d.Disk.GrowWindow(name, off, from, to)
}

func (d *faultDisk) Punch(name string, off int64, n int) error {
	if err := d.ask(opPunch, name); err != nil {
		return err
	}
	return d.Disk.Punch(name, off, n)
}

func (d *faultDisk) OpenFile(name string, create bool) (File, error) {
	if err := d.ask(opFile, name); err != nil {
		return nil, err
	}
	f, err := d.Disk.OpenFile(name, create)
	if err != nil {
		return nil, err
	}
	return &faultFile{f, d, name}, nil
}

func (d *faultDisk) Remove(name string) error {
	if err := d.ask(opRemove, name); err != nil {
		return err
	}
	return d.Disk.Remove(name)
}

func (d *faultDisk) Rename(from, to string) error {
	if err := d.ask(opRename, from); err != nil {
		return err
	}
	return d.Disk.Rename(from, to)
}

func (d *faultDisk) SyncDir() error {
	if err := d.ask(opSyncDir, ""); err != nil {
		return err
	}
	return d.Disk.SyncDir()
}

type faultFile struct {
	File
	d    *faultDisk
	name string
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.d.ask(opWrite, f.name)
	if err == nil {
		return f.File.WriteAt(p, off)
	}
	n := 0
	if f.d.short {
		n, _ = f.File.WriteAt(p[:len(p)/2], off)
	}
	return n, err
}

func (f *faultFile) Sync() error {
	if err := f.d.ask(opSync, f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

var errPlanted = errors.New("planted: no space left on device")

// planted fails the n-th operation that matches, once or for ever. n is 1 for the first one after arm.
type planted struct {
	match   func(op, name string) bool
	forever bool
	err     error // joined to errPlanted

	mu    sync.Mutex
	left  int // operations until the failure; 0 = not armed
	fired int
}

func (p *planted) arm(n int) {
	p.mu.Lock()
	p.left, p.fired = n, 0
	p.mu.Unlock()
}

func (p *planted) heal() {
	p.mu.Lock()
	p.left = 0
	p.mu.Unlock()
}

func (p *planted) hits() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fired
}

func (p *planted) before(op, name string) error {
	if !p.match(op, name) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.left == 0:
		return nil
	case p.left > 1:
		p.left--
		return nil
	}
	if !p.forever {
		p.left = 0
	}
	p.fired++
	if p.err != nil {
		return errors.Join(errPlanted, p.err)
	}
	return errPlanted
}
