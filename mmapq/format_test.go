package mmapq

import (
	"bytes"
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

// Files of a released version are read by every later one: these bytes may only ever be added to.

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	require.NoError(t, err)
	return b
}

func TestFrameBytes(t *testing.T) {
	frame := make([]byte, FrameHeader+5)
	putFrameHeader(frame, 5, 0x0102030405060708, 0x8123456789abcdef)
	copy(frame[FrameHeader:], "hello")
	require.Equal(t, unhex(t, `00000023 00000002 0102030405060708 0001`+hex.EncodeToString([]byte("8123456789abcdefhello"))), frame)
	require.Equal(t, len(frame), frameLen(frame))
	require.Equal(t, int64(0x0102030405060708), FrameTimestamp(frame))
	PutAttempts(frame, 0xfedc)
	require.Equal(t, []byte{0xfe, 0xdc}, frame[16:18])
}

func TestHexIDs(t *testing.T) {
	ids := []uint64{0, 1, 9, 10, 15, 16, 0x9a9a9a9a9a9a9a9a, 0x0123456789abcdef, 1 << 63, ^uint64(0)}
	for range 20000 {
		ids = append(ids, rand.Uint64())
	}
	for _, id := range ids {
		var frame [FrameHeader]byte
		putFrameHeader(frame[:], 0, 0, id)
		if got, want := string(frame[frameID:]), fmt.Sprintf("%016x", id); got != want {
			t.Fatalf("id %#x is written %q", id, got)
		}
	}
}

func TestIDParts(t *testing.T) {
	require.Equal(t, uint64(0x8000000000000000), IDPrefix(0, StreamMain))
	require.Equal(t, uint64(0xfff0000000000000), IDPrefix(NodeMax, StreamDeferred))
	require.Equal(t, IDPrefix(0, StreamMain), IDPrefix(NodeMax+1, StreamMain), "a node id out of range must not touch the mark")
	for _, stream := range []Stream{StreamMain, StreamDeferred} {
		s, p, ok := SplitID(IDPrefix(77, stream) | 0xfedcba9876543)
		require.True(t, ok)
		require.Equal(t, stream, s)
		require.Equal(t, Pos(0xfedcba9876543), p)
	}
	_, _, ok := SplitID(0x0123456789abcdef)
	require.False(t, ok, "ids of a stock nsqd have bit 63 clear")
}

func TestEntryBytes(t *testing.T) {
	e := entry{offset: 0x11223344, sum: 0x55667788, flags: 0x99aa, reserved: 0xbbcc, aux: 0xddeeff01}
	var b [entrySize]byte
	putEntry(b[:], e)
	require.Equal(t, unhex(t, `44332211 88776655 aa99 ccbb 01ffeedd`), b[:])
	require.Equal(t, e, getEntry(b[:]))
	for _, ms := range []int64{0, 1, 1<<32 - 1, 1 << 32, 1<<48 - 1, 1785542400123} {
		require.Equal(t, ms, dueEntry(ms).due())
	}
}

// TestChecksumCoversWhoseFrameItIs: the same frame under another salt, position, flags, reserved bits or aux does not pass.
func TestChecksumCoversWhoseFrameItIs(t *testing.T) {
	frame := make([]byte, FrameHeader+5)
	putFrameHeader(frame, 5, 1, 1<<63|1000)
	copy(frame[FrameHeader:], "hello")
	e := entry{offset: 4096, flags: flagBatchFirst}
	const salt = 0x1122334455667788
	sum := checksum(frame, salt, 1000, e)
	require.Equal(t, uint32(0x04596526), sum, "golden")
	for bit := range 64 {
		require.NotEqual(t, sum, checksum(frame, salt^1<<bit, 1000, e), "salt bit %d", bit)
		require.NotEqual(t, sum, checksum(frame, salt, 1000^1<<bit, e), "position bit %d", bit)
	}
	for bit := range 16 {
		x := e
		x.flags ^= 1 << bit
		require.NotEqual(t, sum, checksum(frame, salt, 1000, x), "flag %d", bit)
		x = e
		x.reserved ^= 1 << bit
		require.NotEqual(t, sum, checksum(frame, salt, 1000, x), "reserved bit %d", bit)
	}
	for bit := range 32 {
		x := e
		x.aux ^= 1 << bit
		require.NotEqual(t, sum, checksum(frame, salt, 1000, x), "aux bit %d", bit)
	}
	for i := range frame {
		b := slices.Clone(frame)
		b[i] ^= 1
		require.NotEqual(t, sum, checksum(b, salt, 1000, e), "byte %d", i)
	}
}

var goldenHeader = header{
	node: 0x0102, stream: StreamDeferred, topicID: 0x1112131415161718, seq: 0x2122232425262728, base: 0x0001323334353637,
	baseOrd: 0x4142434445464748, salt: 0x5152535455565758, size: 1 << 16,
}

func TestHeaderPage(t *testing.T) {
	page := make([]byte, headerSize)
	for i := range page {
		page[i] = 0xee // an earlier life of the file
	}
	putHeader(page, goldenHeader)
	storeChecked(page, offDurable, 7, goldenHeader.salt)
	storeChecked(page, offSeal, 9, goldenHeader.salt)
	want := unhex(t, `
		4e53514c4f4f5053 0100 0201 01 000000 00000000 00000000
		1817161514131211 2827262524232221 3736353433320100 4847464544434241 5857565554535251
		0000000000000000 0000010000000000`)
	want = binary.LittleEndian.AppendUint32(want, crc32.Checksum(want, crc32.MakeTable(crc32.Castagnoli)))
	want = append(want, make([]byte, offDurable-len(want))...)
	want = append(want, unhex(t, `
		0700000000000000 63 6b0c0f9790f7f4
		0900000000000000 6d 6b0c0f9790f7f4`)...)
	for _, at := range []int{0, headerCopy} {
		require.Equal(t, hex.Dump(want), hex.Dump(page[at:at+len(want)]))
		require.Empty(t, bytes.Trim(page[at+len(want):at+headerCopy], "\x00"), "nothing of an earlier life is left")
	}
	h, err := getHeader(page)
	require.NoError(t, err)
	require.Equal(t, goldenHeader, h)
}

// TestHeaderCopies: any damage of one copy loses nothing, of both it is an error and not a wrong header.
func TestHeaderCopies(t *testing.T) {
	good := make([]byte, headerSize)
	putHeader(good, goldenHeader)
	storeChecked(good, offDurable, 7, goldenHeader.salt)
	for _, damaged := range []int{0, headerCopy} {
		for off := range offMaxTime + 16 {
			page := slices.Clone(good)
			page[damaged+off] ^= 0x40
			h, err := getHeader(page)
			require.NoError(t, err)
			require.Equal(t, goldenHeader, h)
			v, ok := loadChecked(page, offDurable, h.salt)
			require.True(t, ok)
			require.Equal(t, uint64(7), v)
		}
	}
	for off := range headerIdentity + 4 {
		page := slices.Clone(good)
		page[off] ^= 0x40
		page[headerCopy+(off+41)%(headerIdentity+4)] ^= 0x40
		_, err := getHeader(page)
		require.ErrorIs(t, err, errNoHeader)
	}
}

func TestNewerSegmentIsRefused(t *testing.T) {
	for name, change := range map[string]func(b []byte){
		"format":                   func(b []byte) { b[8]++ },
		"incompatible feature bit": func(b []byte) { b[16] |= featureCompacted << 1 },
	} {
		page := make([]byte, headerSize)
		putHeader(page, goldenHeader)
		for _, at := range []int{0, headerCopy} {
			b := page[at : at+headerIdentity]
			change(b)
			binary.LittleEndian.PutUint32(page[at+headerIdentity:], crc32.Checksum(b, castagnoli))
		}
		_, err := getHeader(page)
		require.ErrorIs(t, err, ErrNewerFormat, name)
	}
	page := make([]byte, headerSize)
	putHeader(page, goldenHeader)
	page[20] |= 1 // a compatible feature
	binary.LittleEndian.PutUint32(page[headerIdentity:], crc32.Checksum(page[:headerIdentity], castagnoli))
	h, err := getHeader(page)
	require.NoError(t, err)
	require.Equal(t, goldenHeader, h)
}

// TestSegmentBytes pins down a whole segment: where frames and entries go and what they hold.
func TestSegmentBytes(t *testing.T) {
	st := open(t, NewHeapDisk(), Options{SegmentMax: 64 << 10, Node: 5})
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	_, err := l.AppendWait([][]byte{[]byte("one"), []byte("second")}, 77, 0)
	require.NoError(t, err)
	s := (*l.segs.Load())[0]
	id := IDPrefix(5, StreamMain) | uint64(s.base)
	want := func(at int, id uint64, body string, flags uint16, off int) {
		frame := fmt.Appendf(nil, "\x00\x00\x00%c\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x4d\x00\x01%016x%s", 30+len(body), id, body)
		require.Equal(t, hex.Dump(frame), hex.Dump(s.mem[off:off+len(frame)]))
		e := entry{offset: uint32(off), flags: flags}
		e.sum = checksum(frame, s.salt, Pos(id&posMask), e)
		require.Equal(t, e, getEntry(s.mem[len(s.mem)-16*at:]))
	}
	want(1, id, "one", flagBatchFirst, 4096)
	want(2, id+1, "second", flagBatchLast, 4096+34+3)
	require.Equal(t, uint32(4096+34+3+34+6), s.tail)
	h, err := getHeader(s.mem)
	require.NoError(t, err)
	require.Equal(t, header{node: 5, topicID: l.topicID, base: s.base, salt: s.salt, size: 64 << 10}, h)
}

func TestFileNames(t *testing.T) {
	require.Equal(t, "nsqloop.00abcdef.seg", slotName(0xabcdef))
	require.Equal(t, "nsqloop.0123456789abcdef.1.state", stateName(0x0123456789abcdef, StreamDeferred))
	require.Equal(t, "nsqloop.manifest", ManifestName)
	require.Equal(t, "nsqloop.channels", tableName)
}

func TestTableSlotBytes(t *testing.T) {
	d := NewHeapDisk()
	st := open(t, d, small)
	s, err := st.table.take(0x0102030405060708)
	require.NoError(t, err)
	s.SetFloor(StreamMain, 0x11)
	s.SetCursor(StreamMain, 0x22)
	s.SetFloor(StreamDeferred, 0x33)
	s.SetCursor(StreamDeferred, 0x44)
	second, err := st.table.take(9)
	require.NoError(t, err)
	require.Equal(t, uint32(1), second.index)
	want := unhex(t, `0807060504030201 0000000000000000
		1100000000000000 eeffffffffffffff 2200000000000000 ddffffffffffffff
		3300000000000000 ccffffffffffffff 4400000000000000 bbffffffffffffff
		00000000000000000000000000000000 00000000000000000000000000000000 00000000000000000000000000000000
		0900000000000000`)
	require.Equal(t, hex.Dump(want), hex.Dump(d.files[tableName].wins[0][:len(want)]))
}
