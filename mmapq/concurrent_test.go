package mmapq

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// crowd is one log with writers, readers, a reclaimer, the syncer and a watcher of the figures, all at once.
type crowd struct {
	t       *testing.T
	l       *Log
	writers int
	each    int             // messages of one writer
	floors  []atomic.Uint64 // of each reader
	stop    chan struct{}
	freed   atomic.Int64
}

const crowdReaders = 3

func TestCrowd(t *testing.T) {
	interval := Options{SegmentMax: 64 << 10, PoolBytes: 512 << 10, SyncTimeout: time.Millisecond, SyncEvery: 50}
	always := Options{SegmentMax: 64 << 10, PoolBytes: 512 << 10, Sync: SyncAlways}
	for _, c := range []struct {
		name  string
		o     Options
		large int // batches from this size on are written by system calls
	}{
		{"interval", interval, writeOutFrom},
		{"interval, written", interval, 1},
		{"always", always, writeOutFrom},
		{"always, written", always, 1},
	} {
		o := c.o
		t.Run(c.name, func(t *testing.T) {
			onDisks(t, func(t *testing.T, disk Disk) {
				d := &faultDisk{Disk: disk} // notes a sync of memory that is gone
				st := open(t, d, o)
				st.large = c.large
				meta, logs := newTopic(t, st, "t")
				c := &crowd{t: t, l: logs[StreamMain], writers: 4, each: 1000, stop: make(chan struct{})}
				c.run(meta.Base[StreamMain], o.Sync == SyncAlways)
				if s := d.wrong.Load(); s != nil {
					t.Fatal(*s)
				}
				require.NoError(t, st.Failed())
				require.Less(t, int(st.pool.nextID), int(c.l.nextSeq)*2/3, "slots must have been recycled")
				require.Greater(t, c.freed.Load(), int64(10))
				freeAll(t, c.l)
				require.LessOrEqual(t, len(segmentFiles(t, d)), 512/64+8)
				st = reopen(t, st)
				l := topic(t, st, "t").Logs[StreamMain]
				for _, m := range readAll(t, l) {
					_, _, ok := bodyOf([]byte(m.body))
					require.True(t, ok)
				}
			})
		})
	}
}

func (c *crowd) run(base Pos, always bool) {
	c.floors = make([]atomic.Uint64, crowdReaders)
	var work, background sync.WaitGroup
	for w := range c.writers {
		work.Go(func() { c.write(w, always) })
	}
	end := base + Pos(c.writers*c.each)
	for r := range crowdReaders {
		c.floors[r].Store(uint64(base))
		work.Go(func() { c.read(r, base, end) })
	}
	background.Go(c.reclaim)
	background.Go(c.watch)
	work.Wait()
	close(c.stop)
	background.Wait()
	require.Equal(c.t, end, c.l.Committed(), "positions are dense")
	require.Eventually(c.t, func() bool { // a sync round holds one for a moment
		return !slices.ContainsFunc(*c.l.segs.Load(), func(s *Segment) bool { return s.pins.Load() != 0 })
	}, 10*time.Second, time.Millisecond)
}

func (c *crowd) write(w int, always bool) {
	r := rand.New(rand.NewPCG(uint64(w), 5))
	for n := 0; n < c.each && !c.t.Failed(); {
		for c.l.Committed() > c.slowest()+1500 && !c.t.Failed() {
			time.Sleep(50 * time.Microsecond) // so that slots come back while they are wanted
		}
		k := min(1+r.IntN(15), c.each-n)
		bodies := makeBodies(w, n, k, 1+r.IntN(1500))
		if r.IntN(1000) == 0 {
			bodies[0] = makeBody(w, n, 70<<10) // more than a segment of its own class holds
		}
		done, end, err := c.l.Append(bodies, time.Now().UnixNano(), 0)
		if errors.Is(err, ErrWouldBlock) {
			end, err = c.l.AppendWait(bodies[done:], time.Now().UnixNano(), 0)
		}
		if err == nil && always && r.IntN(4) == 0 {
			if err = c.l.AwaitDurable(end); err == nil && !c.l.Durable(end) {
				err = errors.New("not durable after all")
			}
		}
		if err != nil {
			c.t.Errorf("writer %d: %v", w, err)
			return
		}
		n += k
	}
}

// read walks to end like a channel: its floor follows, and runs stay pinned below it for a while.
func (c *crowd) read(reader int, p, end Pos) {
	r := rand.New(rand.NewPCG(uint64(reader), 6))
	next := make([]int, c.writers)
	var held []Run
	release := func() {
		for i := range held {
			c.check(&held[i], nil)
			held[i].Release()
		}
		held = held[:0]
	}
	defer release()
	for p < end && !c.t.Failed() {
		limit := c.l.Committed()
		if p >= limit {
			release()
			time.Sleep(50 * time.Microsecond) // a channel is woken; here nobody wakes
			continue
		}
		run, to := c.l.Run(p, limit, 1+r.IntN(256), 1+r.IntN(64<<10))
		if run.N == 0 || run.First != p || to != p+Pos(run.N) {
			c.t.Errorf("reader %d: run of %d at %d, next %d, asked for %d below %d", reader, run.N, run.First, to, p, limit)
			return
		}
		c.check(&run, next)
		p = to
		c.floors[reader].Store(uint64(p))
		if held = append(held, run); len(held) > r.IntN(20) {
			release()
		}
	}
}

// check looks at every message of a run; next counts what each writer's next message must be, unless nil.
func (c *crowd) check(run *Run, next []int) {
	rest := run.Bytes
	for i := range run.N {
		n := frameLen(rest)
		checkFrame(c.t, rest[:n], run.ID()+uint64(i))
		w, k, ok := bodyOf(rest[FrameHeader:n])
		if !ok {
			c.t.Errorf("position %d holds what nobody wrote", run.First+Pos(i))
			return
		}
		if next != nil {
			if k != next[w] {
				c.t.Errorf("message %d of writer %d instead of %d", k, w, next[w])
			}
			next[w] = k + 1
		}
		rest = rest[n:]
	}
	if len(rest) != 0 {
		c.t.Errorf("%d bytes behind the last message of a run", len(rest))
	}
}

func (c *crowd) slowest() Pos {
	floor := c.floors[0].Load()
	for i := range c.floors {
		floor = min(floor, c.floors[i].Load())
	}
	return Pos(floor)
}

// reclaim frees what lies below the slowest reader.
func (c *crowd) reclaim() {
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		floor := c.slowest()
		c.freed.Add(int64(c.l.Truncate(func(_, to Pos) bool { return to > floor })))
		time.Sleep(100 * time.Microsecond)
	}
}

// watch asks for what /stats shows.
func (c *crowd) watch() {
	total := uint64(c.writers * c.each)
	last := uint64(0)
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		floor := Pos(c.floors[0].Load())
		ordinal := c.l.Ordinal(c.l.Committed())
		if ordinal < last || ordinal > total || c.l.AtRisk() > total || c.l.DeadBetween(0, c.l.Committed()) != 0 || c.l.Ordinal(floor) > total {
			c.t.Errorf("ordinal %d after %d, at risk %d", ordinal, last, c.l.AtRisk())
		}
		last = ordinal
		at, end := c.l.Next(floor, c.l.Committed())
		if at > end || at < floor {
			c.t.Errorf("next of %d is [%d, %d)", floor, at, end)
		}
		time.Sleep(20 * time.Microsecond)
	}
}

// TestManyLogs lets logs share preparer, pool and syncer, with topics coming and going.
func TestManyLogs(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, Options{SegmentMax: 64 << 10, PoolBytes: 512 << 10, SyncTimeout: time.Millisecond})
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for life := range 4 {
					memory := (w+life)%3 == 0
					meta, logs, err := st.CreateTopic(string(rune('a'+w)), memory)
					if err != nil {
						t.Error(err)
						return
					}
					l := logs[life%2]
					for i := range 15 {
						if _, err := l.AppendWait(makeBodies(w, 10*i, 10, 900), 1, 0); err != nil {
							t.Error(err)
							return
						}
						l.Truncate(func(_, to Pos) bool { return i%5 != 4 || to > l.Committed()-20 })
					}
					for _, l := range logs {
						l.Close()
					}
					if _, err := l.AppendWait(makeBodies(w, 0, 1, 1), 1, 0); !errors.Is(err, ErrExiting) {
						t.Errorf("append to a closed log: %v", err)
					}
					if !memory {
						if err := st.DeleteTopic(meta, logs); err != nil {
							t.Error(err)
						}
					}
					for !logs[0].Remove() || !logs[1].Remove() {
						time.Sleep(100 * time.Microsecond) // a sync round or the preparer holds something
					}
				}
			})
		}
		wg.Wait()
		require.NoError(t, st.Failed())
		st = reopen(t, st)
		require.Empty(t, st.Topics())
		require.Empty(t, segmentFiles(t, d))
	})
}
