package mmapq

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// bitScene is a small directory: topic t with messages 0..3 in the main stream and one in the deferred, channel c that has finished 0, holds 1
// for the third time, has requeued 2 with a delay and not taken 3 yet. Everything is synced.
type bitScene struct {
	*HeapDisk
	c    ChannelMeta
	base [2]Pos
}

func newBitScene(t *testing.T) bitScene {
	t.Helper()
	d := NewHeapDisk()
	st := open(t, d, small)
	meta, logs := newTopic(t, st, "t")
	c, slot, states := newChannel(t, st, meta, "c", meta.Base)
	appendAll(t, logs[StreamMain], [][]byte{[]byte("1-0-5|"), []byte("1-1-5|"), []byte("1-2-5|"), []byte("1-3-5|")})
	_, err := logs[StreamDeferred].AppendWait([][]byte{[]byte("2-0-5|")}, 1, 1<<40)
	require.NoError(t, err)
	p := meta.Base[StreamMain]
	states[0].Ensure(p, 3)
	states[0].Finish(p)
	states[0].SetAttempts(p+1, 3)
	slot.SetFloor(StreamMain, p+1)
	slot.SetCursor(StreamMain, p+3)
	require.NoError(t, st.SaveDelays([]Delay{{Channel: c.ID, Pos: p + 2, Due: 1 << 60, Attempts: 1}}, 0))
	st.sync.round()
	st = reopen(t, st) // the manifest is written anew: topic, channel, segments
	recoverChannels(t, st)
	st.Abandon()
	return bitScene{d, c, meta.Base}
}

// window returns the first n bytes of the one window of a file that begins at off.
func (s bitScene) window(d *HeapDisk, name string, off, n int) []byte {
	for at, w := range d.files[name].wins {
		if int(at) <= off && off+n <= int(at)+len(w) {
			return w[off-int(at):][:n]
		}
	}
	panic("BUG: no window of " + name)
}

// check starts on what is left of the scene: nothing is lost, and a finished message comes again only where again says that it may.
func (s bitScene) check(t *testing.T, d *HeapDisk, what string) {
	t.Helper()
	st, err := Open(d, small)
	require.NoError(t, err, what)
	defer st.Abandon()
	rt := topic(t, st, "t")
	require.Len(t, readAll(t, rt.Logs[StreamMain]), 4, what)
	require.Len(t, readAll(t, rt.Logs[StreamDeferred]), 1, what)
	_, _, states, floor, cursor, err := recoverAll(st, s.c, rt)
	require.NoError(t, err, what)
	p := s.base[StreamMain]
	require.LessOrEqual(t, floor[StreamMain], p+1, "%s: message 1 is lost", what)
	for i := range Pos(3) {
		require.NotEqual(t, uint16(Finished), states[0].Get(p+1+i), "%s: message %d counts as finished", what, i+1)
	}
	require.LessOrEqual(t, floor[StreamDeferred], s.base[StreamDeferred], "%s: the deferred message is lost", what)
	require.Zero(t, states[1].Get(s.base[StreamDeferred]), what)
	require.GreaterOrEqual(t, cursor[StreamMain], floor[StreamMain], what)
	end := appendAll(t, rt.Logs[StreamMain], [][]byte{[]byte("3-0-5|")})
	require.Greater(t, end-1, max(cursor[StreamMain], p+3), "%s: a new message gets a position that was used", what)
	require.Zero(t, states[0].Get(end-1), "%s: a new message has a state", what)
}

// TestEveryBitOfStateTableAndDelays: nothing is lost, whatever bit is turned and wherever these files are cut.
func TestEveryBitOfStateTableAndDelays(t *testing.T) {
	s := newBitScene(t)
	state := func(d *HeapDisk) []byte {
		// The state file begins at a multiple of its window below the channel's start.
		o := int(s.base[StreamMain]&(stateMessages-1)) * 2
		return s.window(d, stateName(s.c.ID, StreamMain), o, 8)
	}
	delays := func(d *HeapDisk) []byte {
		for name, f := range d.files {
			if strings.HasSuffix(name, ".delays") && len(f.buf) > 0 {
				return f.buf
			}
		}
		panic("BUG: no delays")
	}
	for name, part := range map[string]func(d *HeapDisk) []byte{
		"table":  func(d *HeapDisk) []byte { return s.window(d, tableName, int(s.c.Slot)*tableSlot, tableSlot) },
		"state":  state,
		"delays": delays,
	} {
		t.Run(name, func(t *testing.T) {
			for at := range part(s.HeapDisk) {
				for bit := range 8 {
					d := s.clone()
					part(d)[at] ^= 1 << bit
					s.check(t, d, name+" flipped")
				}
				d := s.clone()
				clear(part(d)[at:])
				s.check(t, d, name+" cut")
			}
		})
	}
}

// TestEveryBitOfTheManifest: a start succeeds whatever bit is turned and wherever the file is cut, says so, costs at most the record that was
// hit, and deletes no segment that may hold messages.
func TestEveryBitOfTheManifest(t *testing.T) {
	s := newBitScene(t)
	whole := slices.Clone(s.files[ManifestName].buf)
	found, err := parseManifest(whole)
	require.NoError(t, err)
	segments := func(d *HeapDisk) (n int) {
		for name := range d.files {
			if strings.Contains(name, ".seg") {
				n++
			}
		}
		return n
	}
	had := segments(s.HeapDisk)
	for at := range whole {
		for bit := range 8 {
			d := s.clone()
			d.files[ManifestName].buf[at] ^= 1 << bit
			st, err := Open(d, small)
			require.NoError(t, err, "byte %d bit %d", at, bit)
			r := st.Recovered()
			require.Positive(t, r.LostBytes+r.TornBytes, "byte %d bit %d is not noticed", at, bit)
			if at < manifestHeader {
				require.Len(t, st.Topics(), 1)
				require.Len(t, readAll(t, topic(t, st, "t").Logs[StreamMain]), 4, "byte %d bit %d of the header", at, bit)
			}
			require.Equal(t, had, segments(d), "byte %d bit %d: a segment is gone", at, bit)
			st.Abandon()
		}
	}
	for cut := manifestHeader; cut < len(whole); cut++ {
		d := s.clone()
		d.files[ManifestName].buf = whole[:cut:cut]
		st, err := Open(d, small)
		require.NoError(t, err, "cut at %d", cut)
		require.LessOrEqual(t, len(st.Topics()), len(found.recs))
		st.Abandon()
	}
}
