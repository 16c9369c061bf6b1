package mmapq

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// faultCase is one kind of operation that fails.
type faultCase struct {
	name  string
	match func(op, name string) bool
	short bool  // a failing write stores its first half
	err   error // joined to the planted one
	fatal bool  // a failed sync: publishing ends for the life of the process
	most  int   // n-th operations to try, the first ones; 0 = all
}

func isOp(want, suffix string) func(op, name string) bool {
	return func(op, name string) bool { return op == want && strings.HasSuffix(name, suffix) }
}

var faultCases = []faultCase{
	{name: "create", match: isOp(opCreate, "")},
	{name: "populate", match: isOp(opPopulate, "")},
	{name: "write", match: isOp(opWrite, "")},
	{name: "short write", match: isOp(opWrite, ""), short: true},
	{name: "write into a segment", match: isOp(opPwrite, ""), err: syscall.ENOSPC},
	{name: "short write into a segment", match: isOp(opPwrite, ""), err: syscall.ENOSPC, short: true},
	{name: "window of a state", match: isOp(opWindow, ".state")},
	{name: "window of the table", match: isOp(opWindow, tableName)},
	{name: "growth of a state", match: isOp(opGrow, "")},
	{name: "punch", match: isOp(opPunch, "")},
	{name: "remove", match: isOp(opRemove, "")},
	{name: "rename", match: isOp(opRename, "")},
	{name: "open of a file", match: isOp(opFile, "")},
	{name: "no space for a segment", match: isOp(opCreate, ""), err: syscall.ENOSPC},
	{name: "no space for a record", match: isOp(opWrite, ""), err: syscall.ENOSPC},
	{name: "no space for all of a record", match: isOp(opWrite, ""), err: syscall.ENOSPC, short: true},
	{name: "no space for a window of a state", match: isOp(opWindow, ".state"), err: syscall.ENOSPC},
	{name: "no space for the table", match: isOp(opWindow, tableName), err: syscall.ENOSPC},
	{name: "no space for more state", match: isOp(opGrow, ""), err: syscall.ENOSPC},
	{name: "no quota for a file", match: isOp(opFile, ""), err: syscall.EDQUOT},
	{name: "no descriptor for a segment", match: isOp(opCreate, ""), err: syscall.EMFILE},
	{name: "no descriptor for a file", match: isOp(opFile, ""), err: syscall.EMFILE},
	{name: "failing disk under a record", match: isOp(opWrite, ""), err: syscall.EIO, short: true},
	{name: "sync of a segment", match: isOp(opMsync, ".seg"), fatal: true, most: 20},
	{name: "sync of a state", match: isOp(opMsync, ".state"), fatal: true, most: 10},
	{name: "sync of the table", match: isOp(opMsync, tableName), fatal: true, most: 10},
	{name: "sync of the manifest", match: isOp(opSync, ""), fatal: true, most: 20},
	{name: "sync of the directory", match: isOp(opSyncDir, ""), fatal: true, most: 20},
}

// TestFaults lets the n-th operation of each kind fail, once or for ever, for n = 1, 2, ... until a run has no failure left.
func TestFaults(t *testing.T) {
	for _, policy := range []SyncPolicy{SyncInterval, SyncAlways} {
		for _, c := range faultCases {
			for _, forever := range []bool{false, true} {
				if forever && !c.fatal && policy == SyncAlways {
					continue // as under the other policy
				}
				t.Run(fmt.Sprintf("%s, for ever %v, policy %d", c.name, forever, policy), func(t *testing.T) {
					n := 1
					for ; c.most == 0 || n <= c.most; n++ {
						r := &faultRun{t: t, c: c, n: n, planted: planted{match: c.match, forever: forever, err: c.err}}
						r.do(policy)
						if t.Failed() {
							t.Fatalf("n = %d", n)
						}
						if r.hits() == 0 {
							break
						}
					}
					require.Greater(t, n, 1, "the failure must have come at least once")
				})
			}
		}
	}
}

type faultRun struct {
	t *testing.T
	c faultCase
	n int
	planted
	st      *Store
	refused int
	kept    map[string]bool // bodies that were answered with success and not freed
	excused int             // failures of a sync whose caller was told and that endanger nothing
}

func (r *faultRun) do(policy SyncPolicy) {
	disk := NewHeapDisk()
	d := &faultDisk{Disk: disk, before: r.before, short: r.c.short}
	var err error
	r.st, err = Open(d, Options{SegmentMax: 64 << 10, PoolBytes: 128 << 10, Sync: policy, SyncTimeout: time.Millisecond})
	require.NoError(r.t, err)
	r.st.retry = 20 * time.Millisecond
	r.kept = map[string]bool{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.script(policy == SyncAlways)
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		panic(fmt.Sprintf("%s hangs, n = %d", r.t.Name(), r.n))
	}
	if r.t.Failed() {
		return
	}
	if s := d.wrong.Load(); s != nil {
		r.t.Fatal(*s)
	}
	fatal := func() bool { return r.c.fatal && r.hits() > r.excused }
	if fatal() {
		require.Eventually(r.t, func() bool { return r.st.Failed() != nil }, 5*time.Second, time.Millisecond, "a failed sync must be known")
	} else if !r.c.fatal {
		require.NoError(r.t, r.st.Failed())
		r.heal()
	}
	err = r.st.Close()
	require.Equal(r.t, fatal(), err != nil, "%v", err)
	st, err := Open(disk, small)
	require.NoError(r.t, err)
	defer st.Abandon()
	recoverChannels(r.t, st)
	for _, rt := range st.Topics() {
		for _, m := range readAll(r.t, rt.Logs[StreamMain]) {
			_, _, ok := bodyOf([]byte(m.body))
			require.True(r.t, ok, "position %d holds what nobody wrote", m.pos)
			delete(r.kept, m.body)
		}
	}
	require.Empty(r.t, r.kept, "lost")
}

// tell checks the error of an operation: only the planted failure or its consequence may be the reason.
func (r *faultRun) tell(err error) {
	if err == nil || errors.Is(err, errPlanted) || strings.Contains(err.Error(), errPlanted.Error()) {
		return
	}
	r.t.Errorf("failed with %v", err)
}

// insist repeats f until it succeeds or publishing has ended. What fails for ever is healed after a while.
func (r *faultRun) insist(what string, f func() error) bool {
	for tries := 0; ; tries++ {
		began := time.Now()
		err := f()
		if err == nil {
			return true
		}
		r.tell(err)
		r.refused++
		if r.st.Failed() != nil || r.t.Failed() {
			return false
		}
		if tries > 1 {
			r.heal()
		}
		if tries > 60 {
			r.t.Errorf("%s does not recover: %v", what, err)
			return false
		}
		time.Sleep(r.st.retry/10 - min(r.st.retry/10, time.Since(began))) // refusals are quick; a new attempt is made every retry
	}
}

func (r *faultRun) script(always bool) {
	meta, logs := newTopic(r.t, r.st, "t")
	l := logs[StreamMain]
	from := meta.Base[StreamMain]
	r.arm(r.n)
	var c ChannelMeta
	var slot *ChannelSlot
	var states [2]*State
	ok := r.insist("create channel", func() (err error) {
		c, slot, states, err = r.st.CreateChannel(meta, "c", meta.Base, false)
		return err
	})
	if !ok {
		return
	}
	for i := range 24 {
		if !r.publish(l, i, always) {
			break
		}
		end := l.Committed()
		for p := from; p < end; p++ {
			states[StreamMain].Ensure(p, 1)
			states[StreamMain].Finish(p)
		}
		states[StreamMain].Ensure((meta.Base[StreamMain]|(stateMessages-1))+Pos(1+i*2000), 1) // the next window, which grows
		slot.SetCursor(StreamMain, end)
		states[StreamMain].MarkDirty()
		switch i {
		case 4, 16:
			r.awaitRound()
		case 5, 15:
			r.tell(r.st.SaveDelays([]Delay{{Channel: c.ID, Pos: from, Due: 5}}, 1)) // on error it holds until the next start only
		case 11, 17:
			r.tell(r.st.TurnDelays(int64(i) * laneSpan(0)))
		case 6, 12, 18:
			r.free(l, states[StreamMain], end)
		case 8:
			r.insist("create channel", func() error {
				_, _, _, err := r.st.CreateChannel(meta, "d", [2]Pos{end, end}, false)
				return err
			})
		case 10:
			hits := r.hits()
			err := r.st.man.rewrite()
			r.tell(err)
			if err != nil && r.st.man.broken() == nil {
				r.excused += min(r.hits()-hits, 1) // the old file goes on; a sync round may fail meanwhile
			}
		case 14:
			r.shortLived()
		case 20:
			c.Paused = true
			r.insist("pause", func() error { return r.st.SaveChannelPaused(c) })
		}
		from = end
	}
	if r.st.Failed() != nil {
		began := time.Now()
		for range 3 {
			_, err := l.AppendWait(makeBodies(9, 0, 1, 10), 1, 0)
			if err == nil {
				r.t.Errorf("publishing goes on after a failed sync")
			}
			r.tell(err)
			r.heal()
		}
		if !l.Durable(l.Committed()) && l.AwaitDurable(l.Committed()) == nil {
			r.t.Errorf("a failed sync is forgotten")
		}
		if time.Since(began) > 5*time.Second {
			r.t.Errorf("refusals take %v", time.Since(began))
		}
	}
	r.tell(r.st.DropChannel(slot, states, false))
}

// publish stores one batch, again and again until it is taken. Under sync policy always it counts as answered only once it is synced.
func (r *faultRun) publish(l *Log, i int, always bool) bool {
	bodies := makeBodies(1, 10*i, 5, 2500)
	var end Pos
	ok := r.insist("publish", func() (err error) {
		end, err = l.AppendWait(bodies, 1, 0)
		return err
	})
	if ok && always {
		err := l.AwaitDurable(end)
		r.tell(err)
		if ok = err == nil; ok && !l.Durable(end) {
			r.t.Errorf("false success")
		}
		if err != nil && r.st.Failed() == nil {
			r.t.Errorf("a failed sync that nobody knows of: %v", err)
		}
	}
	if ok {
		for _, b := range bodies {
			r.kept[string(b)] = true
		}
	}
	return ok
}

// awaitRound waits until everything dirty now was synced, or failed to be.
func (r *faultRun) awaitRound() {
	for began := r.st.sync.rounds.Load(); r.st.sync.rounds.Load() < began+2; {
		r.st.man.mu.Lock()
		r.st.man.dirty = true
		r.st.man.mu.Unlock()
		signal(r.st.sync.wake)
		time.Sleep(100 * time.Microsecond)
	}
}

func (r *faultRun) free(l *Log, s *State, end Pos) {
	l.Truncate(func(_, to Pos) bool { return to > end })
	left := map[string]bool{}
	for _, m := range readAll(r.t, l) {
		left[m.body] = true
	}
	for b := range r.kept {
		if !left[b] {
			delete(r.kept, b)
		}
	}
	r.tell(r.st.ReleaseState(s, end))
	r.tell(r.st.ReleaseState(s, s.base+5*stateMessages)) // a window that is not needed any more
	s.Ensure(end, 1)                                     // below what was released: the broker does not, but it is no disaster
}

// shortLived creates and deletes a topic.
func (r *faultRun) shortLived() {
	var meta TopicMeta
	var logs [2]*Log
	ok := r.insist("create topic", func() (err error) {
		meta, logs, err = r.st.CreateTopic("other", false)
		return err
	})
	if !ok {
		return
	}
	_, err := logs[0].AppendWait(makeBodies(5, 0, 3, 10), 1, 0)
	r.tell(err)
	logs[0].Close()
	logs[1].Close()
	r.insist("delete topic", func() error { return r.st.DeleteTopic(meta, logs) })
	for !logs[0].Remove() || !logs[1].Remove() {
		time.Sleep(time.Millisecond) // the syncer or the preparer holds something
	}
}

// TestFaultsAtStart: whatever fails during a start, it is an error and not a loss, and the next start has everything.
func TestFaultsAtStart(t *testing.T) {
	disk := NewHeapDisk()
	st := open(t, disk, small)
	meta, logs := newTopic(t, st, "t")
	c, slot, states := newChannel(t, st, meta, "c", meta.Base)
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 150, 1000))
	states[StreamMain].Ensure(meta.Base[StreamMain], 40)
	slot.SetCursor(StreamMain, meta.Base[StreamMain]+40)
	gone, goneLogs := newTopic(t, st, "gone")
	appendAll(t, goneLogs[StreamMain], makeBodies(2, 0, 5, 1000))
	for _, l := range goneLogs {
		l.Close()
	}
	require.NoError(t, st.DeleteTopic(gone, goneLogs)) // its segment is freed by the next start
	st.Abandon()
	for _, fail := range []struct {
		forever bool
		err     error
	}{{}, {forever: true}, {err: syscall.ENOSPC}, {true, syscall.ENOSPC}, {err: syscall.EMFILE}, {true, syscall.EIO}} {
		for n := 1; ; n++ {
			left := disk.clone()
			p := &planted{match: func(string, string) bool { return true }, forever: fail.forever, err: fail.err}
			p.arm(n)
			st, err := Open(&faultDisk{Disk: left, before: p.before}, small)
			if err == nil {
				rt := topic(t, st, "t")
				_, _, _, _, _, err = recoverAll(st, c, rt)
				st.Abandon()
			}
			if p.hits() == 0 {
				require.Greater(t, n, 10)
				break
			}
			if err != nil {
				require.ErrorIs(t, err, errPlanted, "n = %d", n)
			}
			st, err = Open(left, small)
			require.NoError(t, err)
			rt := topic(t, st, "t")
			require.Len(t, readAll(t, rt.Logs[StreamMain]), 150, "n = %d", n)
			_, _, _, _, cursor, err := recoverAll(st, c, rt)
			require.NoError(t, err)
			require.Equal(t, meta.Base[StreamMain]+40, cursor[StreamMain])
			st.Abandon()
		}
	}
}

// TestLargeBodyWithoutRoom: a body that finds no room is refused; small ones go on meanwhile, in the segment that was prepared for them.
func TestLargeBodyWithoutRoom(t *testing.T) {
	d := &roomDisk{HeapDisk: NewHeapDisk()}
	d.most.Store(64 << 10)
	st := open(t, d, small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	appendAll(t, l, makeBodies(1, 0, 40, 1000))
	l.mu.Lock()
	for l.asked { // the segment for small ones, which a large one that comes at once would take along
		l.ready.Wait()
	}
	l.mu.Unlock()
	for i := range 20 {
		_, err := l.AppendWait([][]byte{makeBody(2, i, 100<<10)}, 1, 0)
		require.ErrorIs(t, err, errPlanted)
		appendAll(t, l, makeBodies(1, 40+i, 1, 1000))
	}
	d.most.Store(1 << 30)
	large := [][]byte{slices.Concat([]byte("3-0-17000000|"), make([]byte, 17<<20))} // larger than the largest segment size
	require.Eventually(t, func() bool {
		_, err := l.AppendWait(large, 1, 0)
		return err == nil
	}, 40*prepareRetry, prepareRetry/10)
	appendAll(t, l, makeBodies(1, 60, 40, 1000))
	require.Len(t, readAll(t, l), 101)
	st = reopen(t, st)
	list := readAll(t, topic(t, st, "t").Logs[StreamMain])
	require.Len(t, list, 101)
	require.True(t, list[60].body == string(large[0]))
}

// roomDisk has no room for files above a size.
type roomDisk struct {
	*HeapDisk
	most atomic.Int64 // bytes
}

func (d *roomDisk) CreateMapped(name string, size int) (*Mapping, error) {
	if int64(size) > d.most.Load() {
		return nil, errPlanted
	}
	return d.HeapDisk.CreateMapped(name, size)
}

// TestPanicWhileWriting: a broken invariant between reserve and commit ends publishing, not the topic's readers and not the process.
func TestPanicWhileWriting(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	appendAll(t, l, makeBodies(1, 0, 10, 100))
	s := l.open
	l.mu.Lock()
	res, first := l.firstRes+uint64(len(l.pending)), s.count
	s.count += 3
	l.pending = append(l.pending, reservation{seg: s, end: s.end()})
	l.mu.Unlock()
	w := writing{seg: s, first: first, off: len(s.mem) - 20, bodies: makeBodies(9, 0, 3, 100), ts: 1, batch: true} // not where its room is
	err := w.run()
	require.ErrorContains(t, err, "BUG")
	l.finish(res, s, first, 3, err)
	require.Equal(t, s.end(), l.Committed(), "the reservation is resolved")
	require.Len(t, readAll(t, l), 10)
	require.Equal(t, uint64(3), l.DeadBetween(0, l.Committed()))
	require.ErrorContains(t, st.Failed(), "BUG")
	done, _, err := l.Append(makeBodies(1, 10, 1, 1), 1, 0)
	require.Zero(t, done)
	require.ErrorContains(t, err, "BUG")
	require.Error(t, l.AwaitDurable(l.Committed()))
}

func TestBodyLimit(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	l.mu.Lock()
	err := l.roll(bodyMax + 1)
	l.mu.Unlock()
	require.ErrorIs(t, err, errTooLarge)
	require.Less(t, st.segmentSize(0, bodyMax), 1<<32-1, "offsets are 32 bits wide")
	for class := range classSizes {
		for _, body := range []int{0, 1, 65536 - headerSize - FrameHeader - entrySize, 65536 - headerSize - FrameHeader - entrySize + 1, 1 << 20, 16 << 20} {
			s := &Segment{mem: make([]byte, st.segmentSize(class, body)), tail: headerSize}
			require.True(t, s.takes(body), "class %d, body %d", class, body)
			require.Zero(t, len(s.mem)%4096)
		}
	}
	// A body that fills a segment to the last byte.
	exact := makeBody(1, 1, 64<<10-headerSize-FrameHeader-entrySize)
	appendAll(t, l, [][]byte{[]byte("x"), exact, []byte("y")})
	require.Equal(t, 64<<10, len((*l.segs.Load())[1].mem))
	require.Zero(t, (*l.segs.Load())[1].room())
	st = reopen(t, st)
	list := readAll(t, topic(t, st, "t").Logs[StreamMain])
	require.Len(t, list, 3)
	require.Equal(t, string(exact), list[1].body)
}

// TestAppendAfterTheEnd: when the store is closed or abandoned nobody waits for a segment that will not come.
func TestAppendAfterTheEnd(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	_, logs := newTopic(t, st, "t")
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 10, 1000))
	st.Abandon()
	done := make(chan error)
	go func() {
		_, err := logs[StreamMain].AppendWait(makeBodies(1, 0, 200, 1000), 1, 0)
		done <- err
	}()
	select {
	case err := <-done:
		require.ErrorIs(t, err, ErrExiting)
	case <-time.After(10 * time.Second):
		t.Fatal("waits for ever")
	}
}
