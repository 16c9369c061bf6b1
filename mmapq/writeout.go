package mmapq

import (
	"hash/crc32"
	"sync"
)

// A segment is filled in one of two ways, chosen when it is prepared by how its log was filled before.
//
// Small batches are stored through the mapping: 0.1 us for a single message, but every page must have been made writable for that, once per
// life and again after every sync of it.
//
// Large batches are put together in memory that stays in the processor's cache and are written by two system calls, frames and then entries.
// That costs about 1 us a batch and no page faults, neither the loop's nor the preparer's. Readers see it through the mapping all the same: it
// is the same page cache. A system call may be throttled or wait for the disk like a fault may, but the scheduler knows and goes on.
//
// A kill between the two calls, or within one, leaves what a kill between two stores leaves: entries without their sum, which recovery drops.

// writeOutFrom is the average size of batches, in bytes of frames, from which segments are written by system calls.
const writeOutFrom = 8 << 10

// fillRate is how a segment is being filled. Guarded by Log.mu.
type fillRate struct {
	batches, bytes int
}

func (f *fillRate) add(size int) {
	f.batches++
	f.bytes += size
}

// large tells whether batches of at least least bytes are to be expected; body is the size of one that waits, or 0.
func (f *fillRate) large(least, body int) bool {
	return body >= least || f.batches > 0 && f.bytes/f.batches >= least
}

// ready makes a slot fit for its next life. To be filled by stores, its pages must be writable; by system calls, only the header page.
func (sl *slot) ready(fresh, byWrite bool) error {
	if fresh {
		if err := sl.fill(byWrite); err != nil {
			return err
		}
	}
	if byWrite {
		if err := sl.m.OpenWriter(); err != nil {
			return err
		}
		return sl.m.Populate(0, headerSize)
	}
	if err := sl.m.CloseWriter(); err != nil {
		return err
	}
	size := len(sl.m.Mem)
	for o := 0; o < size; o += populateStep {
		if err := sl.m.Populate(o, min(populateStep, size-o)); err != nil {
			return err
		}
	}
	return nil
}

const populateStep = 1 << 20

// fill writes a new file once in pieces: the page cache then holds it in folios of that size, which makes every life of the segment cheaper, the
// first one included. Where stores follow, 64 KiB is best: the kernel walks the whole folio for every page that becomes writable again, and
// 1 MiB doubles the cost of the second life. System calls want 256 KiB.
func (sl *slot) fill(byWrite bool) error {
	if sl.m.open == nil {
		return nil // memory
	}
	if err := sl.m.OpenWriter(); err != nil {
		return err
	}
	piece := zeros[:64<<10]
	if byWrite {
		piece = zeros
	}
	for off := 0; off < len(sl.m.Mem); off += len(piece) {
		if err := sl.m.WriteAt(piece[:min(len(piece), len(sl.m.Mem)-off)], off); err != nil {
			return err
		}
	}
	return nil
}

var zeros = make([]byte, 256<<10)

const (
	stagedFrames  = 128 << 10
	stagedEntries = 1024
	sumsAtOnce    = 12       // a multiple of 3
	stagedBody    = 32 << 10 // a body from this size on is written from where it lies
)

// staging is where frames and entries of one batch are put together. Entries lie from the end down, as in the segment.
type staging struct {
	frames  [stagedFrames]byte
	entries [stagedEntries * entrySize]byte
}

var stagings = sync.Pool{New: func() any { return new(staging) }}

// writeOut writes the batch by system calls: before any entry the frames up to it.
func (w *writing) writeOut() error {
	g := stagings.Get().(*staging)
	defer stagings.Put(g)
	o := outgoing{writing: w, g: g, at: w.off, next: w.first}
	for i, b := range w.bodies {
		if err := o.add(i, b); err != nil {
			return err
		}
	}
	return o.flush()
}

// outgoing is what lies in the staging: n bytes of frames that belong at offset at, and count entries from entry next on, the first summed of
// which have their checksum.
type outgoing struct {
	*writing
	g      *staging
	at     int
	n      int
	next   uint32
	count  int
	summed int
	body   int // whose entry is the first staged one
}

// add stages body i.
func (o *outgoing) add(i int, body []byte) error {
	if len(body) >= stagedBody {
		return o.addDirect(i, body)
	}
	size := FrameHeader + len(body)
	if o.n+size > stagedFrames {
		if err := o.flushFrames(); err != nil {
			return err
		}
	}
	frame := o.g.frames[o.n : o.n+size]
	o.header(frame, i)
	copy(frame[FrameHeader:], body)
	e := o.entry(i, o.at+o.n)
	o.n += size
	err := o.addEntry(e)
	if o.count-o.summed == sumsAtOnce { // while they are in the nearest cache
		o.sum()
	}
	return err
}

// addDirect writes a large body from where it lies.
func (o *outgoing) addDirect(i int, body []byte) error {
	if err := o.flushFrames(); err != nil {
		return err
	}
	head := o.g.frames[:FrameHeader]
	o.header(head, i)
	e := o.entry(i, o.at)
	e.sum = crc32.Update(checksum(head, o.seg.salt, o.pos(i), e), castagnoli, body)
	m := o.seg.slot.m
	if err := m.WriteAt(head, o.at); err != nil {
		return err
	}
	if err := m.WriteAt(body, o.at+FrameHeader); err != nil {
		return err
	}
	o.at += FrameHeader + len(body)
	o.summed++
	return o.addEntry(e)
}

func (o *outgoing) addEntry(e entry) error {
	putEntry(o.staged(o.count), e)
	if o.count++; o.count == stagedEntries {
		return o.flush()
	}
	return nil
}

// staged is where the k-th staged entry lies.
func (o *outgoing) staged(k int) []byte { return o.g.entries[(stagedEntries-k-1)*entrySize:] }

// flush writes all that is staged.
func (o *outgoing) flush() error {
	if err := o.flushFrames(); err != nil || o.count == 0 {
		return err
	}
	err := o.seg.slot.m.WriteAt(o.staged(o.count-1), o.seg.entryAt(o.next+uint32(o.count)-1))
	o.next += uint32(o.count)
	o.body += o.count
	o.count, o.summed = 0, 0
	return err
}

func (o *outgoing) flushFrames() error {
	if o.n == 0 {
		return nil
	}
	o.sum()
	err := o.seg.slot.m.WriteAt(o.g.frames[:o.n], o.at)
	o.at += o.n
	o.n = 0
	return err
}

// sum fills in the checksums of all staged frames, three at a time.
func (o *outgoing) sum() {
	for ; haveSums3 && o.count-o.summed >= 3; o.summed += 3 {
		k := o.summed
		sums := [3]uint32{o.seed(k), o.seed(k + 1), o.seed(k + 2)}
		a, b, c := o.frame(k), o.frame(k+1), o.frame(k+2)
		sums3(&sums, &a[0], &b[0], &c[0], len(a), len(b), len(c))
		for i, sum := range sums {
			putSum(o.staged(k+i), sum)
		}
	}
	for ; o.summed < o.count; o.summed++ {
		putSum(o.staged(o.summed), crc32.Update(o.seed(o.summed), castagnoli, o.frame(o.summed)))
	}
}

func (o *outgoing) seed(k int) uint32 {
	return sumSeed(o.seg.salt, o.pos(o.body+k), getEntry(o.staged(k)))
}

// frame is that of staged entry k, which is not written yet.
func (o *outgoing) frame(k int) []byte {
	from := int(getEntry(o.staged(k)).offset) - o.at
	return o.g.frames[from : from+FrameHeader+len(o.bodies[o.body+k])]
}
