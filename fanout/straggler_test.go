package fanout

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/nsqloop/nsqloop/mmapq"
)

// eager looks at everything that is kept, at once.
var eager = &keepLimits{little: 1, gain: 1}

// diskUsage is what the blocks of a directory's files take.
func diskUsage(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	ents, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range ents {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, e.Name()), &st); err == nil { // else it went meanwhile
			bytes += st.Blocks * 512
		}
	}
	return bytes
}

func segmentSizes(t *testing.T, disk mmapq.Disk) (bytes int64) {
	t.Helper()
	for _, name := range segmentFiles(t, disk) {
		f, err := disk.OpenFile(name, false)
		if errors.Is(err, fs.ErrNotExist) {
			continue // freed meanwhile
		}
		require.NoError(t, err)
		n, err := f.Size()
		require.NoError(t, err)
		bytes += n
	}
	return bytes
}

// One message of each segment stays, in every way in which it can: what is kept is a fraction of what went past, and each comes when it should,
// with the attempts that it should have, before and after a kill; finished, it counts once and nothing is left.
func TestStragglersDoNotKeepTheLog(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprint("kill ", kill), func(t *testing.T) {
			inBubble(t, func() {
				disk := mmapq.NewHeapDisk()
				opts := Options{MsgTimeout: 10 * time.Minute, keep: eager}
				store := mmapq.Options{SegmentMax: 64 << 10, PoolBytes: 1, SyncTimeout: 100 * time.Millisecond}
				r := openRig(t, disk, store, opts)
				c := r.sub(t, "t", "c", 2500, ConsumerOptions{})
				holder := r.sub(t, "t", "c", 2500, ConsumerOptions{})
				holder.SetReady(0)
				attempts := map[string]int{}
				for round := range 20 {
					r.pub(t, "t", big(300)...)
					for i, d := range c.takeAll(t) {
						switch {
						case i%60 != 0:
							require.NoError(t, c.Fin([]byte(d.id), Now()))
						case i/60%3 == 0: // stays in flight
							attempts[d.id] = 2
						case i/60%3 == 1:
							require.NoError(t, c.Req([]byte(d.id), time.Hour, Now()))
							attempts[d.id] = 2
						default:
							require.NoError(t, c.Req([]byte(d.id), time.Hour+time.Duration(round)*time.Second, Now()))
							attempts[d.id] = 2
						}
					}
					c.EndBatch()
					time.Sleep(2 * time.Second)
				}
				require.Len(t, attempts, 100)
				time.Sleep(time.Minute)
				require.Less(t, segmentSizes(t, disk), int64(384<<10), "6.5 MB were published")
				s := c.Channel().Stats()
				require.Zero(t, s.Depth)
				require.EqualValues(t, 40, s.InFlight)
				require.EqualValues(t, 60, s.Deferred)
				if kill {
					r = r.crash(t, store, opts)
					c = r.sub(t, "t", "c", 2500, ConsumerOptions{})
				} else {
					// Those in flight can still be finished, touched and put back where they lie now.
					k := 0
					for id := range attempts {
						if c.Touch([]byte(id), Now()) != nil {
							continue
						}
						if k++; k%2 == 0 {
							require.NoError(t, c.Req([]byte(id), 0, Now()))
						}
					}
					require.Equal(t, 40, k)
					c.EndBatch()
				}
				seen := map[string]bool{}
				take := func() {
					for _, d := range c.takeAll(t) {
						require.EqualValues(t, attempts[d.id], d.attempts, d.body)
						require.False(t, seen[d.id])
						seen[d.id] = true
						require.NoError(t, c.Fin([]byte(d.id), Now()))
						require.ErrorIs(t, c.Fin([]byte(d.id), Now()), ErrNotInFlight)
					}
					c.EndBatch()
				}
				take()
				require.NotEmpty(t, seen)
				require.LessOrEqual(t, len(seen), 40, "nothing deferred comes early")
				time.Sleep(2 * time.Hour)
				c.Expire(Now())
				take()
				require.Len(t, seen, 100)
				time.Sleep(3 * time.Second)
				require.LessOrEqual(t, len(segmentFiles(t, disk)), 2)
				require.Zero(t, c.Channel().Stats().InFlight)
				require.NoError(t, r.Close())
			})
		})
	}
}

// Messages deferred for a second and, one in fifty, for an hour, in two channels: disk follows what waits.
func TestLongDeferredDoNotKeepShortOnes(t *testing.T) {
	inBubble(t, func() {
		disk := mmapq.NewHeapDisk()
		store := mmapq.Options{SegmentMax: 64 << 10, PoolBytes: 1, SyncTimeout: 100 * time.Millisecond}
		opts := Options{keep: eager}
		r := openRig(t, disk, store, opts)
		a, b := r.sub(t, "t", "a", 2500, ConsumerOptions{}), r.sub(t, "t", "b", 2500, ConsumerOptions{})
		tp := a.Channel().Topic()
		began := Now()
		most := int64(0)
		long := 0
		for range 100 {
			for i, body := range big(100) {
				delay := time.Second
				if i%50 == 0 {
					delay = time.Hour
					body = "long " + body
					long++
				}
				_, err := tp.PublishDeferredWait([]byte(body), delay)
				require.NoError(t, err)
			}
			time.Sleep(3 * time.Second)
			for _, c := range []*Consumer{a, b} {
				for _, d := range c.takeAll(t) {
					require.False(t, strings.HasPrefix(d.body, "long"))
					require.NoError(t, c.Fin([]byte(d.id), Now()))
				}
				c.EndBatch()
			}
			most = max(most, segmentSizes(t, disk))
		}
		require.Less(t, most, int64(1<<20), "10.5 MB were published, 200 kB wait for an hour")
		r = r.crash(t, store, opts)
		defer r.Close()
		a, b = r.sub(t, "t", "a", 2500, ConsumerOptions{}), r.sub(t, "t", "b", 2500, ConsumerOptions{})
		for _, c := range []*Consumer{a, b} {
			require.EqualValues(t, long, c.Channel().Stats().Deferred)
			require.Empty(t, c.takeAll(t))
		}
		time.Sleep(time.Duration(began + int64(time.Hour) - Now() - int64(time.Second)))
		require.Empty(t, a.takeAll(t))
		time.Sleep(10 * time.Minute)
		for _, c := range []*Consumer{a, b} {
			ds := c.takeAll(t)
			require.Len(t, ds, long)
			for _, d := range ds {
				require.True(t, strings.HasPrefix(d.body, "long"))
				require.EqualValues(t, 1, d.attempts)
				require.NoError(t, c.Fin([]byte(d.id), Now()))
			}
			c.EndBatch()
		}
		time.Sleep(3 * time.Second)
		require.LessOrEqual(t, len(segmentFiles(t, disk)), 2)
	})
}

// One message is in flight while a hundred times its segment goes past, over kills: the files on a real disk stay few, and so does the state.
func TestOneStragglerAndALotBehindIt(t *testing.T) {
	dir := t.TempDir()
	store := mmapq.Options{SegmentMax: 64 << 10, PoolBytes: 1, SyncTimeout: 10 * time.Millisecond, DiskReserve: -1}
	opts := Options{keep: eager}
	r := openRig(t, mmapq.NewRealDisk(dir), store, opts)
	c := r.sub(t, "t", "c", 2500, ConsumerOptions{})
	r.pub(t, "t", "straggler")
	first := c.take(t)
	require.Len(t, first, 1)
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		r.pub(t, "t", numbers(round*20000, round*20000+20000)...) // 800,000 messages: more than six windows of state
		for {
			ds := c.take(t)
			for _, d := range ds {
				require.NoError(t, c.Fin([]byte(d.id), Now()))
			}
			c.EndBatch()
			if len(ds) == 0 {
				break
			}
		}
		if rng.IntN(10) == 0 {
			r = r.crash(t, store, opts)
			c = r.sub(t, "t", "c", 2500, ConsumerOptions{})
			again := c.take(t)
			require.Equal(t, []string{"straggler"}, bodies(again))
			require.Greater(t, again[0].attempts, first[0].attempts)
			first = again
		}
	}
	require.Eventually(t, func() bool { return len(segmentFiles(t, r.disk)) <= 4 }, 10*time.Second, 10*time.Millisecond)
	require.Less(t, diskUsage(t, dir), int64(2<<20))
	require.NoError(t, c.Fin([]byte(first[0].id), Now()))
	require.ErrorIs(t, c.Fin([]byte(first[0].id), Now()), ErrNotInFlight)
	c.EndBatch()
	require.NoError(t, r.Close())
}
