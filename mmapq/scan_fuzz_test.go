package mmapq

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzSegmentScan puts arbitrary bytes into the open segment of a killed log: the input is a list of {where, how many, bytes}. No panic, no
// message that was never stored, none lost that was not hit, and none of it changes at the next start.
func FuzzSegmentScan(f *testing.F) {
	disk := NewHeapDisk()
	st := open(f, disk, small)
	_, logs := newTopic(f, st, "t")
	l := logs[StreamMain]
	appendAll(f, l, makeBodies(1, 0, 5, 100))
	st.sync.round()
	appendAll(f, l, makeBodies(1, 5, 5, 1500))
	st.Abandon()
	places := placesOf(l)
	name := places[0].file
	patch := func(at, n int, b ...byte) []byte {
		return append(binary.LittleEndian.AppendUint16(nil, uint16(at)), append([]byte{byte(n)}, b...)...)
	}
	last := places[len(places)-1]
	f.Add(patch(0, 4, 0, 0, 0, 0))
	f.Add(slices.Concat(patch(0, 1, 0), patch(headerCopy, 1, 0)))
	f.Add(patch(last.from, 4, 0xff, 0xff, 0xff, 0xff))
	f.Add(patch(last.atEntry, 16, slices.Repeat([]byte{0xee}, 16)...))
	f.Add(patch(last.atEntry-16, 16, disk.files[name].buf[last.atEntry:last.atEntry+16]...))
	f.Add(patch(offDurable, 16, slices.Repeat([]byte{0xff}, 16)...))
	f.Add(patch(offSeal, 8, 3, 0, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, in []byte) {
		d := disk.clone()
		file := d.files[name].buf
		before := slices.Clone(file)
		for len(in) > 3 {
			at, n := int(binary.LittleEndian.Uint16(in)), min(int(in[2]), len(in)-3)
			copy(file[at:], in[3:3+n])
			in = in[3+n:]
		}
		var first []message
		for life := range 3 {
			st, err := Open(d, small)
			require.NoError(t, err)
			got := readAll(t, topic(t, st, "t").Logs[StreamMain])
			if life == 0 {
				first = got
				for _, p := range places {
					whole := bytes.Equal(before[p.from:p.to], file[p.from:p.to]) && bytes.Equal(before[p.atEntry:p.atEntry+16], file[p.atEntry:p.atEntry+16])
					at := slices.Index(got, p.message)
					require.Equal(t, whole, at >= 0, "message %d untouched, delivered", p.pos)
					if at >= 0 {
						got = slices.Delete(slices.Clone(got), at, at+1)
					}
				}
				require.Empty(t, got, "never stored")
			} else {
				require.Equal(t, first, got)
			}
			st.sync.round()
			st.Abandon()
		}
	})
}
