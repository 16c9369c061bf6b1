package mmapq

import "time"

// A start takes segments that were sealed and synced as they are. So that damage in what nobody reads for weeks is known while there may still be
// a copy somewhere, one goroutine goes through them once, slowly, and checks every message as a reader would (check.go). What readers have
// checked already is passed by.
const (
	verifyAfter = 5 * time.Second // of the start: it has other things to do
	verifyRate  = 16 << 20        // bytes a second
)

// verifyAll is that goroutine.
func (st *Store) verifyAll(after time.Duration, rate int) {
	defer st.wg.Done()
	pause := time.NewTimer(after)
	defer pause.Stop()
	wait := func(d time.Duration) bool {
		pause.Reset(d)
		select {
		case <-st.quit:
			return false
		case <-pause.C:
			return true
		}
	}
	if !wait(after) {
		return
	}
	buf := make([]byte, warmBytes)
	for _, l := range st.logs {
		for _, s := range *l.segs.Load() {
			if !s.unscanned || !l.pinListed(s) {
				continue
			}
			ok := st.verifySegment(l, s, buf, func(bytes int) bool { return wait(time.Duration(bytes) * time.Second / time.Duration(rate)) })
			s.unpin()
			if !ok {
				return
			}
			st.verified.Add(1)
		}
	}
}

// verifySegment goes on behind what readers have checked; false when the store is closing. After each block it calls next.
func (st *Store) verifySegment(l *Log, s *Segment, buf []byte, next func(bytes int) bool) bool {
	for i := s.checked.Load(); i < s.count; i = max(i, s.checked.Load()) {
		f := fetch{l: l, s: s, i: i, n: s.count}
		var to uint32
		err := st.Contain(func() (err error) {
			to, err = f.read(buf)
			return err
		})
		if err != nil {
			st.warn("TOPIC(%s): %s cannot be checked: %v", l.name, slotName(s.slot.id), err)
			return next(warmBytes)
		}
		i = to
		if !next(warmBytes) {
			return false
		}
	}
	return true
}

// pinListed pins s if it still belongs to l.
func (l *Log) pinListed(s *Segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range *l.segs.Load() {
		if x == s {
			s.pin()
			return true
		}
	}
	return false
}
