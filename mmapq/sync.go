package mmapq

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// SyncPolicy says when what was acknowledged is also on the disk.
type SyncPolicy int

const (
	// SyncInterval acknowledges what is in the kernel's pages (SIGKILL cannot lose it) and syncs by time, or by count when asked.
	SyncInterval SyncPolicy = iota
	// SyncAlways acknowledges after the sync that covers the message (group commit).
	SyncAlways
)

// syncer runs sync rounds over everything dirty: the manifest first (it holds the identity that the data needs), then the logs, then channel
// states and the channel table. One round at a time; who comes meanwhile joins the next.
type syncer struct {
	st *Store

	mu     sync.Mutex
	logs   []*Log
	states []*State

	wake    chan struct{} // something became dirty
	now     chan struct{} // do not wait for the interval
	count   atomic.Int64  // publishes since the last round (sync-every)
	last    time.Duration // how long the last round took
	endedAt time.Time
	rounds  atomic.Uint64
	workers int       // syncWorkers
	took    Durations // of rounds
}

func (y *syncer) add(l *Log) {
	y.mu.Lock()
	y.logs = append(y.logs, l)
	y.mu.Unlock()
	signal(y.wake)
}

func (y *syncer) addState(s *State) {
	y.mu.Lock()
	y.states = append(y.states, s)
	y.mu.Unlock()
	signal(y.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// published counts towards sync-every.
func (y *syncer) published(n int) {
	every := y.st.opts.SyncEvery
	if every > 0 && y.count.Add(int64(n)) >= every {
		signal(y.now)
	}
}

func (y *syncer) run() {
	defer y.st.wg.Done()
	for {
		select {
		case <-y.st.quit:
			return
		case <-y.wake:
		}
		if y.st.opts.Sync == SyncInterval && !y.pause() {
			return
		}
		y.round()
	}
}

// pause waits for the interval to pass, or for sync-every to call, but then until four times the last round's duration has passed since it
// ended. False: the store is closing (Close runs the last round itself).
func (y *syncer) pause() bool {
	t := time.NewTimer(y.st.opts.SyncTimeout)
	defer t.Stop()
	select {
	case <-y.st.quit:
		return false
	case <-t.C:
		return true
	case <-y.now:
	}
	if rest := 4*y.last - time.Since(y.endedAt); rest > 0 {
		t.Reset(rest)
		select {
		case <-y.st.quit:
			return false
		case <-t.C:
		}
	}
	return true
}

// round syncs all that was dirty when it began.
func (y *syncer) round() {
	began := time.Now()
	AtPoint(PointSync)
	y.count.Store(0)
	y.mu.Lock()
	logs, states := y.logs, y.states
	y.logs, y.states = nil, nil
	y.mu.Unlock()
	if err := y.syncAll(logs, states); err != nil {
		y.st.fail(fmt.Errorf("sync: %w", err))
		wakeAll(logs)
	}
	AtPoint(PointSynced)
	y.last, y.endedAt = time.Since(began), time.Now()
	y.took.Add(int64(y.last), 1)
	y.rounds.Add(1)
}

func (y *syncer) syncAll(logs []*Log, states []*State) error {
	// How far this round goes is settled before the manifest is synced: what is committed by now lies in segments that it knows.
	goals := make([]syncGoal, len(logs))
	for i, l := range logs {
		goals[i] = l.syncGoal()
	}
	err := y.st.Failed()
	if err == nil && !Mutant("skip-manifest-sync") {
		err = y.st.man.sync()
	}
	if err == nil && y.st.newFiles.Swap(false) && !Mutant("skip-dir-sync") {
		err = y.st.disk.SyncDir()
	}
	if err == nil {
		err = parallel(y.workers, goals, syncGoal.syncRange)
	}
	if err == nil {
		wakeAll(logs) // publishers do not wait for what channels need
	}
	if err == nil {
		err = y.st.delays.sync()
	}
	if err == nil && len(states) > 0 {
		y.st.reclaim.Lock() // keeps windows mapped
		err = parallel(y.workers, states, func(s *State) error { return s.syncAll() })
		y.st.reclaim.Unlock()
		if err == nil {
			err = y.st.table.sync()
		}
	}
	return err
}

const syncWorkers = 4

// parallel runs f over list with a few goroutines and returns the first error. A panic of f is one too.
func parallel[T any](workers int, list []T, f func(T) error) error {
	if len(list) == 1 {
		return contain(func() error { return f(list[0]) })
	}
	var (
		wg    sync.WaitGroup
		next  atomic.Int64
		mu    sync.Mutex
		first error
	)
	for range min(workers, len(list)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(list) {
					return
				}
				if err := contain(func() error { return f(list[i]) }); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

// syncGoal is how far one round goes in a log; what is committed later makes the log dirty again.
type syncGoal struct {
	*Log
	to Pos
}

func (l *Log) syncGoal() syncGoal {
	l.dirty.Store(false)
	return syncGoal{l, l.Committed()}
}

// syncRange makes [durable, to) durable: the pages of these frames and entries only, never the file (that would write the prefaulted
// tail too).
func (g syncGoal) syncRange() error {
	l, to := g.Log, g.to
	if Mutant("sync-latecomers") {
		to = l.Committed()
	}
	for s := l.pinUnsynced(to); s != nil; s = l.pinUnsynced(to) {
		err := contain(func() error { return s.syncUpTo(to) })
		if err != nil && Mutant("retry-sync") {
			err = s.syncUpTo(to)
		}
		s.unpin()
		if err != nil {
			return err
		}
	}
	l.durable.Store(uint64(to))
	return nil
}

// pinUnsynced pins and returns the first segment with entries below to that are not known synced. It pins under the lock that Truncate and
// Remove look at pins under: what is still in the list then is not freed before the unpin. Earlier segments were synced earlier, so it walks
// back from the end.
func (l *Log) pinUnsynced(to Pos) *Segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	segs := *l.segs.Load()
	var first *Segment
	for i := len(segs) - 1; i >= 0; i-- {
		n := segs[i].below(to)
		if n == 0 || segs[i].table != nil {
			continue // a compacted one was synced before it was there, whatever is in front of it
		}
		if segs[i].durable.Load() >= n {
			break
		}
		first = segs[i]
	}
	if first != nil {
		first.pin()
	}
	return first
}

// below is how many entries lie below p. Caller holds Log.mu, or the segment is sealed.
func (s *Segment) below(p Pos) uint32 {
	if p <= s.base {
		return 0
	}
	if s.table != nil {
		return s.index(p)
	}
	return uint32(min(p-s.base, Pos(s.count)))
}

// syncUpTo syncs the entries below to, of which there is one that is not synced. The caller holds a pin.
func (s *Segment) syncUpTo(to Pos) error {
	n := uint32(min(to-s.base, Pos(s.capacity())))
	if s.sealed.Load() { // before count is looked at: a sealed count is final
		n = min(n, s.count)
	}
	from, end, low, high := s.bytesOf(s.durable.Load(), n)
	if err := s.slot.m.SyncRange(from, end-from); err != nil {
		return err
	}
	if err := s.slot.m.SyncRange(low, high-low); err != nil {
		return err
	}
	AtPoint(PointSyncData)
	s.durable.Store(n)
	if s.sealed.Load() && n == s.count { // complete, so no writer is left
		if err := s.slot.m.CloseWriter(); err != nil {
			return err
		}
	}
	if s.hasDead.Load() {
		return nil // never trusted unscanned at a start: what is damaged in it is recorded nowhere
	}
	storeChecked(s.mem, offDurable, uint64(n), s.salt)
	return s.slot.m.SyncRange(0, headerSize)
}

// bytesOf returns where the frames and the entries of [was, n) lie. The offsets of a segment with damage are not to be relied on: all of it.
func (s *Segment) bytesOf(was, n uint32) (from, end, low, high int) {
	if s.hasDead.Load() {
		return headerSize, len(s.mem), headerSize, headerSize
	}
	last := s.offset(n - 1)
	return int(s.offset(was)), int(last) + frameLen(s.mem[last:]), s.entryAt(n - 1), s.entryAt(was) + entrySize
}

func wakeAll(logs []*Log) {
	for _, l := range logs {
		l.wakeWaiters()
	}
}

func (l *Log) wakeWaiters() {
	if mask := l.waiters.Swap(0); mask != 0 && l.st.opts.Settled != nil {
		l.st.opts.Settled(mask)
	}
	l.mu.Lock()
	l.ready.Broadcast()
	l.mu.Unlock()
}

// Durable tells whether everything below p is synced.
func (l *Log) Durable(p Pos) bool { return Pos(l.durable.Load()) >= p }

// AwaitLoop asks for Options.Settled with this loop's bit after durable moved.
func (l *Log) AwaitLoop(loop int) {
	l.waiters.Or(1 << uint(loop))
}

// AwaitDurable blocks until everything below p is synced or syncing failed.
func (l *Log) AwaitDurable(p Pos) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.Durable(p) {
		if err := l.st.Failed(); err != nil {
			return err
		}
		l.ready.Wait()
	}
	return nil
}
