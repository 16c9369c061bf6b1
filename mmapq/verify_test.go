package mmapq

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// verifyScene is a directory with a bit of everything, as a kill leaves it. It returns where the messages of topic t lie.
func verifyScene(t *testing.T, d Disk) []placed {
	t.Helper()
	places := buildScene(t, d, scenes["half synced"])
	st := open(t, d, small)
	rt := topic(t, st, "t")
	first := places[0].pos
	c, slot, states, err := st.CreateChannel(rt.Meta, "c", [2]Pos{first, 0}, false)
	require.NoError(t, err)
	states[0].Ensure(first, 10)
	for p := first; p < first+10; p += 2 {
		states[0].Finish(p)
	}
	slot.SetCursor(StreamMain, first+10)
	require.NoError(t, st.SaveDelays([]Delay{{Channel: c.ID, Pos: first + 1, Due: 1 << 60, Attempts: 1}}, 0))
	require.NoError(t, st.SaveDelays([]Delay{{Channel: c.ID, Pos: first + 3, Due: 1 << 60, Attempts: 1}}, 0))
	st.sync.round()
	st.Abandon()
	return places
}

// readOnly is the disk that nsqd --verify would use.
func readOnly(d Disk) Disk {
	if r, ok := d.(*RealDisk); ok {
		return ReadOnlyDisk{r}
	}
	return d
}

func TestVerifyCountsWhatIsThere(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		places := verifyScene(t, d)
		for range 2 { // the first one changed nothing
			v, err := Verify(readOnly(d))
			require.NoError(t, err)
			require.Empty(t, v.Damage)
			require.True(t, v.Clean())
			require.Len(t, v.Topics, 1)
			require.EqualValues(t, len(places), v.Topics[0].Messages)
			require.Zero(t, v.Topics[0].Damaged+v.Topics[0].Holes)
			require.Equal(t, []VerifiedChannel{{Name: "c", Waiting: uint64(len(places)) - 10, Claimed: 5, Finished: 5}}, v.Topics[0].Channels)
			require.Equal(t, 2, v.Delays)
		}
	})
}

func TestVerifyNamesEveryDamage(t *testing.T) {
	for _, c := range []struct {
		name string
		hurt func(places []placed, d *HeapDisk) // of the scene
		want string
		lost int64
	}{
		{"frame", func(p []placed, d *HeapDisk) { d.files[p[0].file].buf[p[0].from+40] ^= 4 }, "1 messages of topic t fail", 1},
		{"two frames", func(p []placed, d *HeapDisk) {
			d.files[p[0].file].buf[p[0].from+40] ^= 4
			d.files[p[0].file].buf[p[4].from] ^= 4
		}, "2 messages of topic t fail", 2},
		{"entry", func(p []placed, d *HeapDisk) { d.files[p[3].file].buf[p[3].atEntry+5] ^= 1 }, "1 messages of topic t fail", 1},
		{"header copy", func(p []placed, d *HeapDisk) { d.files[p[0].file].buf[headerCopy+60] ^= 1 }, "one copy of the header", 0},
		{"both header copies", func(p []placed, d *HeapDisk) {
			d.files[p[0].file].buf[60] ^= 1
			d.files[p[0].file].buf[headerCopy+60] ^= 1
		}, "both copies of the header", 0},
		{"short file", func(p []placed, d *HeapDisk) { f := d.files[p[0].file]; f.buf = f.buf[:40<<10] }, "bytes instead of", 0},
		{"manifest record", func(_ []placed, d *HeapDisk) { d.files[ManifestName].buf[manifestHeader+20] ^= 1 }, "bytes in front of its last valid record", 0},
		{"manifest header", func(_ []placed, d *HeapDisk) { d.files[ManifestName].buf[3] ^= 1 }, "32 bytes in front of its last valid record", 0},
		{"manifest salt", func(_ []placed, d *HeapDisk) { clear(d.files[ManifestName].buf[20:28]) }, "header is damaged", 0},
		{"no manifest", func(_ []placed, d *HeapDisk) { delete(d.files, ManifestName) }, "is missing but", 0},
		{"table", func(_ []placed, d *HeapDisk) { d.files[tableName].wins[0][16+32*0+2] ^= 1 }, "torn or damaged", 0},
		{"delay", func(_ []placed, d *HeapDisk) { d.files[delayName(0)].buf[9] ^= 1 }, "1 delays are damaged", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := NewHeapDisk()
			places := verifyScene(t, d)
			c.hurt(places, d)
			v, err := Verify(d)
			require.NoError(t, err)
			require.False(t, v.Clean())
			require.Contains(t, strings.Join(v.Damage, "\n"), c.want)
			lost := int64(0)
			for _, topic := range v.Topics {
				lost += topic.Damaged
			}
			require.Equal(t, c.lost, lost)
		})
	}
}

// TestVerifyAfterATornTail: what a kill or a power cut leaves behind the synced end is no damage.
func TestVerifyAfterATornTail(t *testing.T) {
	d := NewHeapDisk()
	places := buildScene(t, d, scenes["half synced"])
	last := places[len(places)-1]
	d.files[last.file].buf[last.from+40] ^= 4
	m := d.files[ManifestName]
	m.buf = append(m.buf, m.buf[manifestHeader:manifestHeader+30]...)
	v, err := Verify(d)
	require.NoError(t, err)
	require.Empty(t, v.Damage)
	require.EqualValues(t, len(places)-1, v.Topics[0].Messages)
	require.EqualValues(t, 30, v.TornBytes)
}

func TestVerifyOfNothing(t *testing.T) {
	v, err := Verify(NewReadOnlyDisk(t.TempDir()))
	require.NoError(t, err)
	require.True(t, v.Clean())
	require.Contains(t, v.Notes[0], "no data")
}

// TestVerifyAgreesWithTheStart: whatever happens to a segment, what Verify counts is what the next start delivers.
func TestVerifyAgreesWithTheStart(t *testing.T) {
	for name, finish := range scenes {
		disk := NewHeapDisk()
		places := buildScene(t, disk, finish)
		for kind, hurt := range damages {
			for seed := range uint64(5) {
				d := disk.clone()
				r := rand.New(rand.NewPCG(seed, 2))
				hurt(r, d.files[places[r.IntN(len(places))].file].buf)
				before := d.clone()
				v, err := Verify(d)
				require.NoError(t, err)
				require.Equal(t, before, d, "it changed something")
				st, err := Open(d, small)
				require.NoError(t, err)
				require.EqualValues(t, len(readAll(t, topic(t, st, "t").Logs[StreamMain])), v.Topics[0].Messages, "%s, %s, seed %d", name, kind, seed)
				st.Abandon()
			}
		}
	}
}

// TestReadOnlyDiskRefuses everything that would change a file.
func TestReadOnlyDiskRefuses(t *testing.T) {
	dir := t.TempDir()
	d := NewReadOnlyDisk(dir)
	_, err := d.CreateMapped("a", 4096)
	require.ErrorIs(t, err, errReadOnly)
	_, err = d.MapWindow("a", 0, 4096, 4096)
	require.ErrorIs(t, err, errReadOnly)
	_, err = d.OpenFile("a", true)
	require.ErrorIs(t, err, errReadOnly)
	for i, err := range []error{d.GrowWindow("a", 0, 0, 1), d.Punch("a", 0, 1), d.Remove("a"), d.Rename("a", "b")} {
		require.ErrorIs(t, err, errReadOnly, i)
	}
	_, err = d.OpenMapped("a")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.WriteFile(d.path("a"), make([]byte, 100), 0o600))
	_, err = d.OpenMapped("a")
	require.ErrorIs(t, err, errShortFile)
	f, err := d.OpenFile("a", false)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("x"), 0)
	require.Error(t, err)
	require.NoError(t, f.Close())
	names, err := d.List()
	require.NoError(t, err)
	require.Equal(t, "[a]", fmt.Sprint(names))
}
