package mmapq

import "sync/atomic"

// FinishRange marks [from, to) finished and returns the first position that has no word (then the rest is left as it is), or to. The caller
// alone holds these messages: nobody else writes their states, so the words that are wholly theirs are stored without looking.
func (s *State) FinishRange(from, to Pos) Pos {
	for p := from; p < to; {
		if p < s.base {
			return p
		}
		i := uint64(p - s.base)
		w := s.window(i >> stateShift)
		if w == nil {
			return p
		}
		o, end := int(i&(stateMessages-1))*2, stateBytes
		mem := w.mem(o)
		if mem == nil {
			return p
		}
		if alloc := int(w.alloc.Load()); o < alloc {
			end = alloc
		}
		end = min(end, o+int(to-p)*2)
		p += Pos(end-o) / 2
		finishWords(mem, o, end)
	}
	return to
}

// finishWords marks the messages whose states are bytes [o, end) of mem.
func finishWords(mem []byte, o, end int) {
	for ; o < end && o&7 != 0; o += 2 {
		finishOne(mem, o)
	}
	for ; end-o >= 8; o += 8 {
		storeWord(mem, o, ^uint64(0))
	}
	for ; o < end; o += 2 {
		finishOne(mem, o)
	}
}

func finishOne(mem []byte, o int) {
	atomic.OrUint32(word32(mem, o&^3), uint32(Finished)<<(uint(o&2)*8))
}
