//go:build invariants

package mmapq

import "fmt"

func must(ok bool, format string, args ...any) {
	if !ok {
		panic("BUG: " + fmt.Sprintf(format, args...))
	}
}

// mustBeWhole: what a reader gets are the messages of the positions it asked for, back to back (I1), and the segment is held.
func (r *Run) mustBeWhole() {
	must(r.seg.pins.Load() > 0, "a run at %d holds no pin", r.First)
	rest := r.Bytes
	for i := range r.N {
		frame := r.Frame(i)
		must(len(frame) <= len(rest) && &frame[0] == &rest[0], "message %d of a run at %d does not follow the one before", i, r.First)
		if r.seg.entry(r.index+uint32(i)).flags&flagForeignID == 0 {
			must(hasID(frame, r.ID()+uint64(i)), "position %d holds message %q", r.First+Pos(i), frame[frameID:FrameHeader])
		}
		rest = rest[len(frame):]
	}
	must(len(rest) == 0, "%d bytes too many in a run at %d", len(rest), r.First)
}

// mustCommitForwards: committed never moves back (I2). Caller holds mu.
func (l *Log) mustCommitForwards(to Pos) {
	must(to >= l.Committed(), "committed moves from %d back to %d", l.Committed(), to)
}

// mustFollow: positions of a segment lie behind those of the one before it (I4). Caller holds mu.
func (l *Log) mustFollow(s *Segment) {
	if segs := *l.segs.Load(); len(segs) > 0 {
		last := segs[len(segs)-1]
		must(s.base >= last.end() && s.seq > last.seq, "segment %d at %d follows segment %d that ends at %d", s.seq, s.base, last.seq, last.end())
	}
}

// mustBeUnpinned: nobody reads what is freed (I3).
func mustBeUnpinned(segs []*Segment) {
	for _, s := range segs {
		must(s.pins.Load() == 0, "segment at %d is freed with %d pins", s.base, s.pins.Load())
	}
}

// mustCountUp: the number of deliveries never falls.
func mustCountUp(from, to uint16) {
	must(to >= from && to != Finished, "deliveries go from %d to %d", from, to)
}

// mustMoveForward: floor and cursor never move back.
func (s *ChannelSlot) mustMoveForward(o int, p Pos) {
	if was, ok := s.load(o); ok {
		must(p >= was, "word %d of channel %d moves from %d back to %d", o, s.id(), was, p)
	}
}
