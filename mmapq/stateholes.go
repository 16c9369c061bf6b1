package mmapq

import "errors"

// ReleaseStateHoles takes the windows of s out of use that lie below cursor and in which l has no segment any more: one message that stays
// unfinished must not keep the state of everything behind it. The caller holds the channel's mutex and knows that nothing of an earlier epoch is
// in flight; it runs what is returned (if not nil) after it has let the mutex go.
func (st *Store) ReleaseStateHoles(s *State, l *Log, cursor Pos) (finish func() error) {
	old := s.wins.Load()
	if len(old.wins) < 2 || !st.reclaim.TryLock() {
		return nil
	}
	segs := *l.segs.Load()
	var gone []uint64 // index in old.wins
	for i, w := range old.wins {
		from := s.base + Pos(old.low+uint64(i))<<stateShift
		to := from + stateMessages
		if to > cursor {
			break
		}
		for len(segs) > 0 && segs[0].sealed.Load() && segs[0].end() <= from { // the open one still grows
			segs = segs[1:]
		}
		if len(segs) == 0 {
			break
		}
		if w != nil && segs[0].base >= to {
			gone = append(gone, uint64(i))
		}
	}
	if len(gone) == 0 {
		st.reclaim.Unlock()
		return nil
	}
	t := &stateWindows{low: old.low, wins: append([]*stateWindow(nil), old.wins...)}
	for _, i := range gone {
		t.wins[i] = nil
	}
	s.wins.Store(t)
	return func() error {
		defer st.reclaim.Unlock()
		var errs error
		for _, i := range gone {
			errs = errors.Join(errs, s.giveBack(old.low+i, old.wins[i]))
		}
		return errs
	}
}

// giveBack unmaps a window that is out of use and punches its part of the file.
func (s *State) giveBack(index uint64, w *stateWindow) error {
	if err := w.m.Unmap(); err != nil {
		return err
	}
	if s.name == "" || w.alloc.Load() == 0 && !w.saved {
		return nil
	}
	AtPoint(PointPunch)
	return s.st.disk.Punch(s.name, int64(index)*stateBytes, stateBytes)
}
