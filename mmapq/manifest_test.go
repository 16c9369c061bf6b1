package mmapq

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestManifestBytes pins down a manifest with two records.
func TestManifestBytes(t *testing.T) {
	const salt = 0x1122334455667788
	buf := manifestHead(salt)
	head := unhex(t, `4e53514c4f4f504d 0100 0000 00000000 00000000 8877665544332211`)
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
	require.Equal(t, hex.Dump(head), hex.Dump(buf))
	buf = frameRecord(buf, salt, 0, record{
		kind: recChannel, id: 0x0102030405060708, topic: 0x1112131415161718, slot: 0x21222324, stream: 1, flags: 3,
		a: 0x3132333435363738, b: 0x4142434445464748, size: 0x5152535455565758, name: "ch",
	})
	buf = frameRecord(buf, salt, 1, record{kind: recFloor, a: 9})
	want := unhex(t, `
		31000000 a94ef343 04 0807060504030201 1817161514131211 24232221 01 03 3837363534333231 4847464544434241 5857565554535251 6368
		2f000000 fa478a18 0a 0000000000000000 0000000000000000 00000000 00 00 0900000000000000 0000000000000000 0000000000000000`)
	require.Equal(t, hex.Dump(want), hex.Dump(buf[manifestHeader:]))
	found, err := parseManifest(buf)
	require.NoError(t, err)
	require.Len(t, found.recs, 2)
	require.Equal(t, "ch", found.recs[0].name)
	require.Equal(t, uint64(9), found.recs[1].a)
}

func TestNewerManifestIsRefused(t *testing.T) {
	for name, change := range map[string]func(b []byte){
		"format":       func(b []byte) { b[8]++ },
		"feature bit":  func(b []byte) { b[12] |= 1 },
		"record kind":  func([]byte) {},
		"damaged head": func(b []byte) { clear(b[20:28]) },
	} {
		t.Run(name, func(t *testing.T) {
			d := NewHeapDisk()
			open(t, d, small).Abandon()
			change2 := func(b []byte) {
				change(b)
				if name != "damaged head" {
					binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
				}
			}
			f := d.files[ManifestName]
			change2(f.buf)
			if name == "record kind" {
				found, err := parseManifest(f.buf)
				require.NoError(t, err)
				f.buf = frameRecord(f.buf, binary.LittleEndian.Uint64(f.buf[20:]), uint64(len(found.recs)), record{kind: 99})
			}
			before := slices.Clone(f.buf)
			_, err := Open(d, small)
			require.Error(t, err)
			if name != "damaged head" {
				require.ErrorIs(t, err, ErrNewerFormat)
			}
			require.Equal(t, before, d.files[ManifestName].buf, "a file that is not understood is left alone")
		})
	}
}

// history appends a random but sensible history of n operations.
func history(t testing.TB, st *Store, r *rand.Rand, n int) {
	t.Helper()
	type live struct {
		meta     TopicMeta
		logs     [2]*Log
		channels []ChannelMeta
		slots    []*ChannelSlot
		states   [][2]*State
	}
	var topics []*live
	for i := range n {
		if len(topics) == 0 || r.IntN(4) == 0 {
			meta, logs := newTopic(t, st, fmt.Sprintf("topic%d", i))
			topics = append(topics, &live{meta: meta, logs: logs})
			continue
		}
		k := r.IntN(len(topics))
		x := topics[k]
		switch r.IntN(7) {
		case 0:
			c, slot, states := newChannel(t, st, x.meta, fmt.Sprintf("channel%d", i), x.meta.Base)
			x.channels, x.slots, x.states = append(x.channels, c), append(x.slots, slot), append(x.states, states)
			x.meta.Held = false
			require.NoError(t, st.SaveTopic(x.meta))
		case 1:
			x.meta.Paused, x.meta.Held = !x.meta.Paused, true
			require.NoError(t, st.SaveTopic(x.meta))
		case 2:
			if n := len(x.channels); n > 0 {
				x.channels[n-1].Paused = !x.channels[n-1].Paused
				require.NoError(t, st.SaveChannelPaused(x.channels[n-1]))
			}
		case 3:
			if n := len(x.channels); n > 0 {
				require.NoError(t, st.DeleteChannel(x.channels[n-1], x.meta))
				require.NoError(t, st.DropChannel(x.slots[n-1], x.states[n-1], false))
				x.channels, x.slots, x.states = x.channels[:n-1], x.slots[:n-1], x.states[:n-1]
			}
		case 4:
			appendAll(t, x.logs[r.IntN(2)], makeBodies(k, i, 1+r.IntN(90), 1000))
		case 5:
			end := x.logs[0].Committed()
			require.NoError(t, x.logs[0].Drop(end-min(end, 3), end))
			freeAll(t, x.logs[0])
		case 6:
			for _, l := range x.logs {
				l.Close()
			}
			require.NoError(t, st.DeleteTopic(x.meta, x.logs))
			topics = slices.Delete(topics, k, k+1)
		}
	}
}

// facts is a model in an order that can be compared.
func facts(m *model) []string {
	var list []string
	for _, r := range m.records() {
		list = append(list, fmt.Sprintf("%+v", r))
	}
	return list
}

func replay(recs []record) *model {
	m := newModel()
	for _, r := range recs {
		m.apply(r)
	}
	return m
}

// TestManifestCutAnywhere: a manifest cut at any byte adds up to what a prefix of its records adds up to, also when the kill comes between two
// records that were appended together, and what is appended afterwards is there after the next start.
func TestManifestCutAnywhere(t *testing.T) {
	d := NewHeapDisk()
	st := open(t, d, small)
	history(t, st, rand.New(rand.NewPCG(4, 2)), 60)
	st.Abandon()
	whole := d.files[ManifestName].buf
	found, err := parseManifest(whole)
	require.NoError(t, err)
	require.Zero(t, found.torn+found.lost)
	require.Equal(t, facts(st.man.model), facts(replay(found.recs)), "the file says what the process knew")
	ends := []int{manifestHeader}
	for i, r := range found.recs {
		ends = append(ends, ends[i]+8+recordFixed+len(r.name))
	}
	require.Equal(t, len(whole), ends[len(found.recs)])
	for cut := manifestHeader; cut <= len(whole); cut++ {
		got, err := parseManifest(whole[:cut])
		require.NoError(t, err)
		n, exact := slices.BinarySearch(ends, cut)
		if !exact {
			n--
		}
		require.True(t, slices.Equal(found.recs[:n], got.recs), "cut at %d", cut)
		require.Equal(t, int64(cut-ends[n]), got.torn)
		require.Zero(t, got.lost)
	}
	for i, end := range ends {
		for _, torn := range []int{0, 5, 30} { // whole records, and the start of the next one
			cut := min(end+torn, len(whole))
			c := d.clone()
			c.files[ManifestName].buf = slices.Clone(whole[:cut])
			st, err := Open(c, small)
			require.NoError(t, err, "cut behind record %d", i)
			recoverChannels(t, st)
			meta, logs := newTopic(t, st, "after")
			appendAll(t, logs[StreamMain], [][]byte{[]byte("x")})
			_, _, _ = newChannel(t, st, meta, "c", meta.Base)
			want := facts(st.man.model)
			st.Abandon()
			again, err := Open(c, small)
			require.NoError(t, err)
			require.Equal(t, want, facts(again.man.model), "cut behind record %d", i)
			require.Len(t, readAll(t, topic(t, again, "after").Logs[StreamMain]), 1)
			again.Abandon()
		}
	}
}

// recoverChannels does what the broker does at start, and checks that no two channels share a place in the table.
func recoverChannels(t testing.TB, st *Store) {
	t.Helper()
	slots := map[uint32]string{}
	for _, rt := range st.Topics() {
		for _, c := range rt.Meta.Channels {
			slot, _, _, _, err := st.RecoverChannel(*c, rt.Logs)
			require.NoError(t, err)
			name := rt.Meta.Name + "/" + c.Name
			require.Empty(t, slots[slot.index], "%s has a slot that is not its own", name)
			require.Equal(t, c.ID, slot.id())
			slots[slot.index] = name
		}
	}
	st.FinishRecovery()
}

// TestManifestRewrite: the rewritten file adds up to the same state, at start and while running, and appends go on behind it.
func TestManifestRewrite(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, small)
		history(t, st, rand.New(rand.NewPCG(8, 1)), 150)
		want := facts(st.man.model)
		for range 2 {
			before := st.man.off
			require.NoError(t, st.man.rewrite())
			require.LessOrEqual(t, st.man.off, before)
			require.Equal(t, want, facts(st.man.model))
			found, _, err := readManifest(d)
			require.NoError(t, err)
			require.Equal(t, want, facts(replay(found.recs)))
		}
		newTopic(t, st, "more")
		want = facts(st.man.model)
		names, err := d.List()
		require.NoError(t, err)
		require.NotContains(t, names, manifestTemp)
		st = reopen(t, st)
		recoverChannels(t, st)
		topic(t, st, "more")
		require.Equal(t, withoutSegments(want), withoutSegments(facts(st.man.model)))
	})
}

// withoutSegments drops what a start may free.
func withoutSegments(facts []string) []string {
	return slices.DeleteFunc(facts, func(s string) bool {
		return strings.HasPrefix(s, fmt.Sprintf("{kind:%d ", recSegment)) || strings.HasPrefix(s, fmt.Sprintf("{kind:%d ", recDead))
	})
}

// TestManifestOvergrown: history that adds up to nothing is dropped while running, with other records being appended at the same time.
func TestManifestOvergrown(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	meta, _ := newTopic(t, st, "t")
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			if _, _, err := st.CreateTopic(fmt.Sprintf("other%d", n%50), false); err != nil {
				t.Error(err)
			}
		}
	}()
	rewritten := 0
	for i := 0; rewritten < 3; i++ {
		meta.Paused = i%2 == 0
		require.NoError(t, st.SaveTopic(meta))
		before := st.man.overgrown()
		require.NoError(t, st.Compact())
		if before {
			rewritten++
			require.False(t, st.man.overgrown())
		}
	}
	close(stop)
	require.Positive(t, <-done)
	want := facts(st.man.model)
	require.Less(t, len(want), 250)
	st = reopen(t, st)
	require.Equal(t, want, facts(st.man.model))
}

// TestManifestDamage: a record that does not pass costs itself. The file is kept aside, and so is everything that nothing refers to any more.
func TestManifestDamage(t *testing.T) {
	d := NewHeapDisk()
	st := open(t, d, small)
	_, logs := newTopic(t, st, "a")
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 3, 10))
	_, logs = newTopic(t, st, "b")
	appendAll(t, logs[StreamMain], makeBodies(2, 0, 3, 10))
	st = reopen(t, st) // topics first, then segments
	st.Abandon()
	whole := slices.Clone(d.files[ManifestName].buf)
	found, err := parseManifest(whole)
	require.NoError(t, err)
	for at := manifestHeader; at < len(whole); at++ {
		b := slices.Clone(whole)
		b[at] ^= 0x10
		got, err := parseManifest(b)
		require.NoError(t, err)
		require.Len(t, got.recs, len(found.recs)-1, "byte %d", at)
	}
	for _, hurt := range []struct {
		from, to int // records
		topics   []string
	}{{0, 1, []string{"a", "b"}}, {1, 2, []string{"b"}}, {1, 3, []string{"b"}}, {1, 5, nil}, {5, 6, []string{"a", "b"}}} {
		c := d.clone()
		b := c.files[ManifestName].buf
		from, to := manifestHeader, manifestHeader
		for i, r := range found.recs[:hurt.to] {
			if to += 8 + recordFixed + len(r.name); i < hurt.from {
				from = to
			}
		}
		for i := from; i < to; i++ {
			b[i] ^= 0x55
		}
		damaged := slices.Clone(b)
		st, err := Open(c, small)
		require.NoError(t, err)
		var names []string
		for _, rt := range st.Topics() {
			names = append(names, rt.Meta.Name)
		}
		slices.Sort(names)
		require.Equal(t, hurt.topics, names)
		require.Equal(t, int64(to-from), st.Recovered().LostBytes)
		require.Equal(t, damaged, c.files[ManifestName+".damaged"].buf)
		kept := 0
		for name := range c.files {
			if strings.Contains(name, ".seg") {
				kept++
			}
		}
		require.Equal(t, 2, kept, "no segment is deleted on the word of a damaged manifest: %v", names)
		st.Abandon()
		st, err = Open(c, small)
		require.NoError(t, err)
		require.Zero(t, st.Recovered().LostBytes)
		st.Abandon()
	}
}

// TestMissingManifest: a directory with segments and no manifest is not taken for an empty one.
func TestMissingManifest(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, small)
		_, logs := newTopic(t, st, "t")
		appendAll(t, logs[StreamMain], makeBodies(1, 0, 3, 10))
		st.Abandon()
		require.NoError(t, d.Rename(ManifestName, "elsewhere"))
		_, err := Open(d, small)
		require.ErrorContains(t, err, slotName(1))
		require.Len(t, segmentFiles(t, d), 1)
		require.NoError(t, d.Rename("elsewhere", ManifestName))
		require.Len(t, readAll(t, topic(t, open(t, d, small), "t").Logs[StreamMain]), 3)
	})
}

// TestNameTwice: a deletion that could not be recorded does not leave two topics or channels of one name.
func TestNameTwice(t *testing.T) {
	d := NewHeapDisk()
	st := open(t, d, small)
	_, logs := newTopic(t, st, "t")
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 3, 10))
	meta, logs := newTopic(t, st, "t")
	newChannel(t, st, meta, "c", meta.Base)
	second, _, _ := newChannel(t, st, meta, "c", meta.Base)
	appendAll(t, logs[StreamMain], makeBodies(2, 0, 5, 10))
	st = reopen(t, st)
	rt := topic(t, st, "t")
	require.Equal(t, meta.ID, rt.Meta.ID)
	require.Len(t, rt.Meta.Channels, 1)
	require.Equal(t, second.ID, rt.Meta.Channels[0].ID)
	require.Len(t, readAll(t, rt.Logs[StreamMain]), 5)
	require.Len(t, segmentFiles(t, d), 1)
}

func TestNameTooLong(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	_, _, err := st.CreateTopic(strings.Repeat("x", recordMax), false)
	require.ErrorIs(t, err, errRecordTooLong)
	name := strings.Repeat("x", recordMax-recordFixed)
	newTopic(t, st, name)
	topic(t, reopen(t, st), name)
}

// FuzzManifest: no bytes make the reader panic or invent records, and a valid file with rubbish behind it still adds up to its own records.
func FuzzManifest(f *testing.F) {
	d := NewHeapDisk()
	st := open(f, d, small)
	history(f, st, rand.New(rand.NewPCG(1, 1)), 20)
	st.Abandon()
	whole := d.files[ManifestName].buf
	f.Add(whole, 100, 0)
	f.Add(whole, len(whole)-20, 3)
	f.Add([]byte("NSQLOOPM"), 0, 0)
	base, err := parseManifest(whole)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, b []byte, at, n int) {
		if len(b) > 64<<10 {
			return
		}
		if found, err := parseManifest(b); err == nil {
			m := replay(found.recs)
			require.Equal(t, facts(m), facts(replay(m.records())), "the shortest list adds up to the same")
		}
		// The same bytes behind a valid file, and over a part of it.
		found, err := parseManifest(append(slices.Clone(whole), b...))
		require.NoError(t, err)
		require.Equal(t, base.recs, found.recs[:len(base.recs)])
		hurt := slices.Clone(whole)
		if at = manifestHeader + max(0, at)%(len(whole)-manifestHeader); n > 0 {
			copy(hurt[at:], b[:min(len(b), n)])
		}
		found, err = parseManifest(hurt)
		require.NoError(t, err)
		for i, k := 0, 0; i < len(found.recs); i, k = i+1, k+1 {
			for k < len(base.recs) && base.recs[k] != found.recs[i] {
				k++ // lost
			}
			if k == len(base.recs) {
				t.Fatalf("record %d is none of the file's, or out of order: %+v", i, found.recs[i])
			}
		}
	})
}
