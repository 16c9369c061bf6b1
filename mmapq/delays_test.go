package mmapq

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

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

// waitingDelays is what a broker would remember: the last delay of each message that still waits.
type waitingDelays map[string]Delay

func (w waitingDelays) put(d Delay) { w[fmt.Sprint(d.Channel, d.Stream, d.Pos)] = d }

func (w waitingDelays) list() []Delay { return slices.Collect(maps.Values(w)) }

// TestDelaysAcrossStarts: every delay that still waits is found after any number of kills and rotations, the last one of a message last.
func TestDelaysAcrossStarts(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		r := rand.New(rand.NewPCG(3, 3))
		st := open(t, d, small)
		waiting := waitingDelays{}
		for i := range 1500 {
			x := Delay{Channel: uint64(1 + r.IntN(3)), Stream: Stream(r.IntN(2)), Pos: Pos(1 + r.IntN(300)), Due: int64(i), Attempts: uint16(r.IntN(9))}
			switch op := r.IntN(100); {
			case op < 80:
				require.NoError(t, st.SaveDelay(x))
				waiting.put(x)
			case op < 90:
				for k := range waiting {
					delete(waiting, k) // delivered: a record of it that is left does no harm
					break
				}
			case op < 94:
				require.NoError(t, st.RotateDelays(waiting.list))
			case op < 97:
				st.sync.round()
				require.NoError(t, st.Failed())
			default:
				st = reopen(t, st)
				found := waitingDelays{}
				for c := uint64(1); c <= 3; c++ {
					for _, x := range st.Delays(c) {
						require.Equal(t, c, x.Channel)
						found.put(x)
					}
				}
				for k, x := range waiting {
					require.Equal(t, x, found[k])
				}
				require.NoError(t, st.RotateDelays(waiting.list)) // the broker begins anew with what it found
			}
		}
		names, err := d.List()
		require.NoError(t, err)
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".delays") })
		require.LessOrEqual(t, len(names), 3, "generations that nobody needs are removed: %v", names)
	})
}

// TestRotateWithNothingWaiting: the last records were never synced and nothing takes their place.
func TestRotateWithNothingWaiting(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	none := func() []Delay { return nil }
	require.NoError(t, st.RotateDelays(none))
	for range 3 {
		require.NoError(t, st.SaveDelay(Delay{Channel: 1, Pos: 1, Due: 1}))
		require.NoError(t, st.RotateDelays(none))
		require.NoError(t, st.RotateDelays(none))
		st.sync.round()
		require.NoError(t, st.Failed())
	}
	require.NoError(t, st.SaveDelay(Delay{Channel: 1, Pos: 1, Due: 1}))
	require.NoError(t, st.Close())
}

// TestDelaysTogether: REQ on several loops, rotation and sync rounds meet.
func TestDelaysTogether(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	var mu sync.Mutex
	waiting := waitingDelays{}
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 1000 {
				d := Delay{Channel: uint64(w + 1), Pos: Pos(i + 1), Due: int64(i)}
				mu.Lock()
				if err := st.SaveDelay(d); err != nil {
					t.Error(err)
				}
				waiting.put(d)
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for range 30 {
			err := st.RotateDelays(func() []Delay {
				mu.Lock()
				defer mu.Unlock()
				return waiting.list()
			})
			if err != nil {
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
	found := waitingDelays{}
	for c := uint64(1); c <= 3; c++ {
		for _, x := range st.Delays(c) {
			found.put(x)
		}
	}
	require.Equal(t, waiting, found)
}

// TestDelaysThatCannotBeSynced: like any failed sync it ends publishing.
func TestDelaysThatCannotBeSynced(t *testing.T) {
	for name, f := range map[string]func(st *Store){
		"round":    func(st *Store) { st.sync.round() },
		"rotation": func(st *Store) { _ = st.RotateDelays(func() []Delay { return nil }); st.sync.round() },
	} {
		p := &planted{match: func(op, name string) bool { return op == opSync && strings.HasSuffix(name, ".delays") }}
		st := open(t, &faultDisk{Disk: NewHeapDisk(), before: p.before}, small)
		require.NoError(t, st.SaveDelay(Delay{Channel: 1, Pos: 1, Due: 1}))
		p.arm(1)
		f(st)
		require.ErrorIs(t, st.Failed(), errPlanted, name)
		require.ErrorIs(t, st.SaveDelay(Delay{Channel: 1, Pos: 2, Due: 1}), errPlanted, name)
	}
}
