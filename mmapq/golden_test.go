package mmapq

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const goldenDir = "testdata/golden-v1"

// golden is what a directory says, read through the same calls as by the broker.
type golden struct {
	Topics map[string]goldenTopic
}

type goldenTopic struct {
	Paused, Held bool
	HeldAt       [2]Pos
	Messages     [2]map[string]Pos // first word of the body to position
	Due          map[string]int64
	Channels     map[string]goldenChannel
}

type goldenChannel struct {
	Paused        bool
	Floor, Cursor [2]Pos
	States        map[Pos]uint16 // of claimed messages of the main stream
	Delays        []Delay
}

var goldenOptions = Options{Node: 617, SegmentMax: 64 << 10, SyncTimeout: time.Hour, DiskReserve: -1}

// goldenBodies are n bodies of about size bytes that compress well.
func goldenBodies(writer, from, n, size int) (list [][]byte) {
	for i := range n {
		list = append(list, fmt.Appendf(nil, "%d-%d %s", writer, from+i, strings.Repeat("golden ", 100)[:size]))
	}
	return list
}

// readGolden lists what st holds.
func readGolden(t *testing.T, st *Store) golden {
	g := golden{Topics: map[string]goldenTopic{}}
	for _, rt := range st.Topics() {
		gt := goldenTopic{
			Paused: rt.Meta.Paused, Held: rt.Meta.Held, HeldAt: rt.Meta.HeldAt, Due: map[string]int64{}, Channels: map[string]goldenChannel{},
		}
		for s, l := range rt.Logs {
			gt.Messages[s] = map[string]Pos{}
			for _, m := range readAll(t, l) {
				name, rest, _ := strings.Cut(m.body, " ")
				require.True(t, strings.HasPrefix(strings.Repeat("golden ", 100), rest), "%q", m.body)
				gt.Messages[s][name] = m.pos
				if s == int(StreamDeferred) {
					r, _ := l.Run(m.pos, m.pos+1, 1, 1)
					gt.Due[name] = r.Due(0)
					r.Release()
				}
			}
		}
		for _, c := range rt.Meta.Channels {
			_, states, floor, cursor, err := st.RecoverChannel(*c, rt.Logs)
			require.NoError(t, err)
			gc := goldenChannel{Paused: c.Paused, Floor: floor, Cursor: cursor, States: map[Pos]uint16{}, Delays: st.Delays(c.ID)}
			for _, m := range gt.Messages[StreamMain] {
				if m >= floor[StreamMain] && m < cursor[StreamMain] {
					gc.States[m] = states[StreamMain].Get(m)
				}
			}
			gt.Channels[c.Name] = gc
		}
		g.Topics[rt.Meta.Name] = gt
	}
	st.FinishRecovery()
	return g
}

// writeGolden makes a directory with everything that the format has, left by a kill.
func writeGolden(t *testing.T, dir string) {
	st := open(t, NewRealDisk(dir), goldenOptions)
	meta, logs := newTopic(t, st, "orders")
	l := logs[StreamMain]
	base := meta.Base
	c, slot, states := newChannel(t, st, meta, "billing", base)
	d, _, _ := newChannel(t, st, meta, "mail", base)
	meta.Held = false
	require.NoError(t, st.SaveTopic(meta))
	for i := range 40 {
		appendAll(t, l, goldenBodies(1, 10*i, 10, 500))
	}
	st.sync.round()
	n := every(t, l, 20)
	for p := base[0] + 300; p < l.Committed(); p++ {
		n[p] = true // only the first segments are compacted
	}
	require.NotZero(t, compactAll(t, l, n))
	appendAll(t, l, goldenBodies(2, 0, 3, 10))
	states[0].Ensure(base[0], 350)
	for p := base[0]; p < base[0]+300; p++ {
		if p != base[0]+20 && p != base[0]+40 {
			require.True(t, states[0].Finish(p))
		}
	}
	require.True(t, states[0].SetAttempts(base[0]+40, 7))
	slot.SetFloor(StreamMain, base[0]+20)
	slot.SetCursor(StreamMain, base[0]+350)
	d.Paused = true
	require.NoError(t, st.SaveChannelPaused(d))
	_, err := logs[StreamDeferred].AppendWait(goldenBodies(3, 0, 2, 20), 1, 4102444800123)
	require.NoError(t, err)
	far := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	require.NoError(t, st.SaveDelays([]Delay{{Channel: c.ID, Pos: base[0] + 40, Due: far, Attempts: 7}}, far-int64(time.Hour)))

	held, heldLogs := newTopic(t, st, "held")
	end := appendAll(t, heldLogs[StreamMain], goldenBodies(4, 0, 5, 50))
	require.NoError(t, heldLogs[StreamMain].Drop(held.Base[0], end))
	held.HeldAt[0], held.Paused = end, true
	require.NoError(t, st.SaveTopic(held))
	appendAll(t, heldLogs[StreamMain], goldenBodies(4, 5, 2, 50))

	gone, goneLogs := newTopic(t, st, "gone")
	for _, l := range goneLogs {
		l.Close()
	}
	require.NoError(t, st.DeleteTopic(gone, goneLogs))
	st.Abandon()
}

// TestGoldenDirectory: what version 1 wrote can be read, says the same, and can be gone on with. With -update it is written anew, which is right
// only before the format is released.
func TestGoldenDirectory(t *testing.T) {
	if *update {
		dir := t.TempDir()
		writeGolden(t, dir)
		require.NoError(t, os.RemoveAll(goldenDir))
		require.NoError(t, os.MkdirAll(goldenDir, 0o755))
		pack(t, dir, goldenDir)
		st := open(t, NewRealDisk(dir), goldenOptions)
		text, err := json.MarshalIndent(readGolden(t, st), "", " ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(goldenDir, "expected.json"), text, 0o644))
	}
	text, err := os.ReadFile(filepath.Join(goldenDir, "expected.json"))
	require.NoError(t, err)
	var want golden
	require.NoError(t, json.Unmarshal(text, &want))
	require.Len(t, want.Topics, 2)

	dir := unpack(t)
	v, err := Verify(NewReadOnlyDisk(dir))
	require.NoError(t, err)
	require.Empty(t, v.Damage)
	st := open(t, NewRealDisk(dir), goldenOptions)
	require.Equal(t, want, readGolden(t, st))
	require.Zero(t, st.Recovered().Damaged)
	st = reopen(t, st)
	require.Equal(t, want, readGolden(t, st), "this version's own start has not changed it")
	l := topic(t, st, "orders").Logs[StreamMain]
	last := want.Topics["orders"].Messages[StreamMain]["2-2"]
	require.NotZero(t, last)
	p := appendAll(t, l, goldenBodies(9, 0, 1, 100))
	require.Greater(t, p-1, last)
	require.NoError(t, st.Close())
	st = open(t, NewRealDisk(dir), goldenOptions)
	require.Len(t, readAll(t, topic(t, st, "orders").Logs[StreamMain]), len(want.Topics["orders"].Messages[StreamMain])+1)
	require.Equal(t, want.Topics["held"], readGolden(t, st).Topics["held"])
}

// pack compresses every file of dir into to; unpack is the reverse. Segments and states are mostly zeros.
func pack(t *testing.T, dir, to string) {
	names, err := NewRealDisk(dir).List()
	require.NoError(t, err)
	for _, name := range names {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		f, err := os.Create(filepath.Join(to, name+".gz"))
		require.NoError(t, err)
		z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
		require.NoError(t, err)
		_, err = z.Write(raw)
		require.NoError(t, errors.Join(err, z.Close(), f.Close()))
	}
}

func unpack(t *testing.T) (dir string) {
	dir = t.TempDir()
	names, err := filepath.Glob(filepath.Join(goldenDir, "*.gz"))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		f, err := os.Open(name)
		require.NoError(t, err)
		z, err := gzip.NewReader(f)
		require.NoError(t, err)
		raw, err := io.ReadAll(z)
		require.NoError(t, errors.Join(err, f.Close()))
		require.NoError(t, os.WriteFile(filepath.Join(dir, strings.TrimSuffix(filepath.Base(name), ".gz")), raw, 0o600))
	}
	return dir
}

// TestUnknownFeatureRefuses: one line names the file and what is unknown; nothing is changed. A compatible feature is passed by.
func TestUnknownFeatureRefuses(t *testing.T) {
	segment := func(dir string) string {
		names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
		require.NoError(t, err)
		return filepath.Base(names[len(names)-1])
	}
	for _, c := range []struct {
		name       string
		manifest   bool
		off        int // of a byte in the header
		value      byte
		says       string
		compatible bool
	}{
		{name: "version of the manifest", manifest: true, off: 8, value: 2, says: "format version 2, the newest known is 1"},
		{name: "bit of the manifest", manifest: true, off: 13, value: 2, says: "incompatible feature bit 9"},
		{name: "compatible bit of the manifest", manifest: true, off: 16, value: 1, compatible: true},
		{name: "version of a segment", off: 8, value: 7, says: "format version 7, the newest known is 1"},
		{name: "bit of a segment", off: 19, value: 0x80, says: "incompatible feature bit 31"},
		{name: "compatible bit of a segment", off: 20, value: 4, compatible: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := unpack(t)
			file, copies, sum := segment(dir), []int{0, headerCopy}, headerIdentity
			if c.manifest {
				file, copies, sum = ManifestName, []int{0}, 28
			}
			raw, err := os.ReadFile(filepath.Join(dir, file))
			require.NoError(t, err)
			for _, at := range copies {
				raw[at+c.off] = c.value
				binary.LittleEndian.PutUint32(raw[at+sum:], crc32.Checksum(raw[at:at+sum], castagnoli))
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), raw, 0o600))
			st, err := Open(NewRealDisk(dir), goldenOptions)
			if c.compatible {
				require.NoError(t, err)
				st.Abandon()
				return
			}
			require.ErrorIs(t, err, ErrNewerFormat)
			require.EqualError(t, err, fmt.Sprintf("%s: %s: %v", file, c.says, ErrNewerFormat))
			left, err := os.ReadFile(filepath.Join(dir, file))
			require.NoError(t, err)
			require.Equal(t, raw, left)
		})
	}
}
