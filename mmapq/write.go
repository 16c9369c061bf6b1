package mmapq

import ()

// writing is one batch on its way into a reservation: n entries from first on, frames from offset off on. It runs outside the log's lock; the
// reserved bytes are its own.
type writing struct {
	seg    *Segment
	first  uint32
	off    int
	bodies [][]byte
	ts     int64
	extra  entry // OR-ed into every entry
	batch  bool  // mark the first and the last entry
}

// run writes the batch. Every panic becomes an error, so that the reservation is resolved in any case: one that is left open would stop the
// topic for ever.
func (w *writing) run() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = faultError(r)
		}
	}()
	if w.seg.byWrite {
		out := *w // what writeOut keeps goes to the heap: this copy, for large batches only, not every publish
		return out.writeOut()
	}
	w.store()
	return nil
}

// store puts frames and entries where they belong in the mapping.
func (w *writing) store() {
	s, at := w.seg, w.off
	for i, b := range w.bodies {
		frame := s.mem[at : at+FrameHeader+len(b)]
		w.header(frame, i)
		copy(frame[FrameHeader:], b)
		e := w.entry(i, at)
		e.sum = checksum(frame, s.salt, w.pos(i), e)
		putEntry(s.mem[s.entryAt(w.first+uint32(i)):], e)
		at += len(frame)
	}
}

func (w *writing) pos(i int) Pos { return w.seg.base + Pos(w.first) + Pos(i) }

// header writes what stands before body i.
func (w *writing) header(dst []byte, i int) {
	putFrameHeader(dst, len(w.bodies[i]), w.ts, w.seg.idBase+uint64(w.first)+uint64(i))
}

// entry is that of body i, whose frame begins at offset at, without its checksum.
func (w *writing) entry(i, at int) entry {
	e := entry{offset: uint32(at), reserved: w.extra.reserved, aux: w.extra.aux}
	if w.batch {
		if i == 0 {
			e.flags |= flagBatchFirst
		}
		if i == len(w.bodies)-1 {
			e.flags |= flagBatchLast
		}
	}
	return e
}
