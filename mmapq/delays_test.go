package mmapq

import (
	"cmp"
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDelayBytes(t *testing.T) {
	d := Delay{Channel: 0x0102030405060708, Stream: StreamDeferred, Pos: 0x1122334455667, Due: 0x2122232425262728, Attempts: 0x3132}
	b := d.encode(nil)
	require.Equal(t, hex.Dump(unhex(t, `0807060504030201 6756453423121100 2827262524232221 3231 0000`)), hex.Dump(b[:28]))
	require.Len(t, b, delaySize)
	got, ok := decodeDelay(b)
	require.True(t, ok)
	require.Equal(t, d, got)
	for i := range b {
		b[i] ^= 4
		_, ok := decodeDelay(b)
		require.False(t, ok, "byte %d", i)
		b[i] ^= 4
	}
	_, ok = decodeDelay(make([]byte, delaySize))
	require.False(t, ok, "zeros that a power cut left are no record")
}

// waitingDelays is what must be found: every record that is not past, by message, deliveries and due time.
type waitingDelays map[Delay]bool

func (w waitingDelays) past(now int64) {
	maps.DeleteFunc(w, func(d Delay, _ bool) bool { return d.Due <= now })
}

func foundDelays(t *testing.T, st *Store, channels uint64) waitingDelays {
	t.Helper()
	found := waitingDelays{}
	for c := uint64(1); c <= channels; c++ {
		list := st.Delays(c)
		require.True(t, slices.IsSortedFunc(list, func(a, b Delay) int {
			return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Pos, b.Pos), cmp.Compare(a.Attempts, b.Attempts), cmp.Compare(a.Due, b.Due))
		}))
		for _, x := range list {
			require.Equal(t, c, x.Channel)
			found[x] = true
		}
	}
	return found
}

func delayNames(t *testing.T, d Disk) []string {
	t.Helper()
	names, err := d.List()
	require.NoError(t, err)
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".delays") })
}

// TestDelaysAcrossStarts: every delay that still waits is found after any number of kills, and files whose delays are past go, however much was
// requeued. The clock of this test stands ahead of the wall clock: what is past by it is found at a start as well.
func TestDelaysAcrossStarts(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		r := rand.New(rand.NewPCG(3, 3))
		st := open(t, d, small)
		waiting := waitingDelays{}
		now := time.Now().Add(24 * time.Hour).UnixNano()
		for range 3000 {
			now += int64(r.IntN(1000)) * int64(time.Millisecond)
			x := Delay{Channel: uint64(1 + r.IntN(3)), Stream: Stream(r.IntN(2)), Pos: Pos(1 + r.IntN(300)), Attempts: uint16(r.IntN(9))}
			x.Due = now + 1 + r.Int64N(1<<uint(r.IntN(43)))
			switch op := r.IntN(100); {
			case op < 80:
				require.NoError(t, st.SaveDelays([]Delay{x}, now))
				waiting[x] = true
			case op < 94:
				require.NoError(t, st.TurnDelays(now))
			case op < 97:
				st.sync.round()
				require.NoError(t, st.Failed())
			default:
				st = reopen(t, st)
				found := foundDelays(t, st, 3)
				waiting.past(now)
				for x := range waiting {
					require.True(t, found[x], "%v", x)
				}
			}
		}
		require.NotEmpty(t, waiting)
		require.Less(t, len(delayNames(t, d)), 300) // a start makes new files for the lanes it uses
		require.NoError(t, st.TurnDelays(now))
		now += int64(100 * time.Hour)
		require.NoError(t, st.TurnDelays(now))
		require.NoError(t, st.TurnDelays(now))
		require.LessOrEqual(t, len(delayNames(t, d)), delayLanes, "all of it is past, what is left is empty")
		st = reopen(t, st)
		for x := range foundDelays(t, st, 3) {
			t.Errorf("found %v, which is past", x)
		}
	})
}

// TestDelaysDoNotPileUp: a hundred requeues a second, most of them for a second, for a day: what is kept follows from what waits.
func TestDelaysDoNotPileUp(t *testing.T) {
	d := NewHeapDisk()
	st := open(t, d, small)
	now := time.Now().UnixNano()
	most := int64(0)
	for second := range 24 * 3600 {
		list := make([]Delay, 0, 100)
		for i := range 100 {
			delay := int64(time.Second)
			if i == 0 {
				delay = int64(time.Minute)
			}
			if i == 1 && second%600 == 0 {
				delay = int64(time.Hour)
			}
			list = append(list, Delay{Channel: 1, Pos: Pos(second*100 + i + 1), Due: now + delay, Attempts: 1})
		}
		require.NoError(t, st.SaveDelays(list, now))
		require.NoError(t, st.TurnDelays(now))
		now += int64(time.Second)
		if second%1000 == 999 {
			size := int64(0)
			for _, name := range delayNames(t, d) {
				f, err := d.OpenFile(name, false)
				require.NoError(t, err)
				n, err := f.Size()
				require.NoError(t, err)
				size += n
			}
			most = max(most, size)
		}
	}
	require.Less(t, most, int64(64<<10), "276 MB were written")
}

// TestDelaysOfOneBatchAreGrouped: one batch of every kind of delay ends up in one file for each kind.
func TestDelaysOfOneBatchAreGrouped(t *testing.T) {
	d := NewHeapDisk()
	st := open(t, d, small)
	now := time.Now().UnixNano()
	var list []Delay
	for i := range 3000 {
		list = append(list, Delay{Channel: 1, Pos: Pos(i + 1), Due: now + int64(time.Second)<<uint(i%30) - 1, Attempts: 1})
	}
	require.NoError(t, st.SaveDelays(list, now))
	require.Len(t, delayNames(t, d), delayLanes)
	st = reopen(t, st)
	require.Len(t, foundDelays(t, st, 1), 3000)
}

// TestDelaysTogether: REQ on several loops, new files and sync rounds meet.
func TestDelaysTogether(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	waiting := waitingDelays{}
	now := time.Now().UnixNano()
	var clock atomic.Int64
	clock.Store(now)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 1000 {
				now := clock.Add(int64(10 * time.Millisecond))
				d := Delay{Channel: uint64(w + 1), Pos: Pos(i + 1), Due: now + int64(time.Hour) + int64(i*w)*int64(time.Second), Attempts: 1}
				if err := st.SaveDelays([]Delay{d, {Channel: 9, Pos: 1, Due: now + 1}}, now); err != nil {
					t.Error(err)
				}
				mu.Lock()
				waiting[d] = true
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for range 30 {
			if err := st.TurnDelays(clock.Add(int64(time.Second))); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for range 30 {
			st.sync.round()
		}
	})
	wg.Wait()
	require.NoError(t, st.Failed())
	st = reopen(t, st)
	require.Equal(t, waiting, foundDelays(t, st, 3))
}

// TestDelaysThatCannotBeSynced: like any failed sync it ends publishing.
func TestDelaysThatCannotBeSynced(t *testing.T) {
	for name, f := range map[string]func(st *Store){
		"round": func(st *Store) { st.sync.round() },
		"turn":  func(st *Store) { require.ErrorIs(t, st.TurnDelays(laneSpan(0)+1), errPlanted) },
	} {
		p := &planted{match: func(op, name string) bool { return op == opSync && strings.HasSuffix(name, ".delays") }}
		st := open(t, &faultDisk{Disk: NewHeapDisk(), before: p.before}, small)
		require.NoError(t, st.SaveDelays([]Delay{{Channel: 1, Pos: 1, Due: 2}}, 1))
		p.arm(1)
		f(st)
		require.ErrorIs(t, st.Failed(), errPlanted, name)
		require.ErrorIs(t, st.SaveDelays([]Delay{{Channel: 1, Pos: 2, Due: 2}}, 1), errPlanted, name)
	}
}
