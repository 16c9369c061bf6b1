package codec

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/require"
)

// snappyAll feeds stream in pieces of the sizes that next gives.
func snappyAll(r *SnappyReader, stream []byte, next func() int) (plain []byte, err error) {
	fed, taken := 0, 0
	for {
		portion := make([]byte, 0, snappyBlock+next())
		out, used, err := r.Decode(portion, stream[taken:fed])
		plain = append(plain, out...)
		taken += used
		switch {
		case err != nil:
			return plain, err
		case len(out) > 0:
		case taken < fed:
			return plain, errors.New("no progress")
		case fed == len(stream):
			return plain, nil
		default:
			fed = min(fed+next(), len(stream))
		}
	}
}

func TestSnappyReadsWhatOthersWrite(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var stream bytes.Buffer
		var w interface {
			io.WriteCloser
			Flush() error
		} = snappy.NewBufferedWriter(&stream)
		if seed%2 == 1 {
			w = s2.NewWriter(&stream, s2.WriterSnappyCompat(), s2.WriterConcurrency(1), s2.WriterPadding(1000))
		}
		reader := new(SnappyReader)
		for range 1 + r.IntN(5) {
			text := inflateText(r, 1+r.IntN(200_000))
			_, err := w.Write(text)
			require.NoError(t, err)
			require.NoError(t, w.Flush())
			plain, err := snappyAll(reader, stream.Bytes(), randomSizes(r))
			require.NoError(t, err)
			require.True(t, bytes.Equal(text, plain), "seed %d", seed)
			stream.Reset()
		}
		require.NoError(t, w.Close())
		plain, err := snappyAll(reader, stream.Bytes(), randomSizes(r))
		require.NoError(t, err)
		require.Empty(t, plain)
		require.Nil(t, reader.part)
	}
}

func TestSnappyWritesWhatOthersRead(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var w SnappyWriter
		var stream, text []byte
		for range 1 + r.IntN(5) {
			piece := inflateText(r, r.IntN(200_000))
			text = append(text, piece...)
			stream = w.Encode(stream, piece)
		}
		plain, err := io.ReadAll(snappy.NewReader(bytes.NewReader(stream)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(text, plain))
	}
}

// The frame OK as a stock daemon sends it.
func TestSnappyOKFrame(t *testing.T) {
	const want = snappyMagic + "\x01\x0e\x00\x00\x26\x98\x2b\xcf\x00\x00\x00\x06\x00\x00\x00\x00OK"
	var w SnappyWriter
	require.Equal(t, want, string(w.Encode(nil, FrameOK)))
	plain, err := snappyAll(new(SnappyReader), []byte(want), constant(1))
	require.NoError(t, err)
	require.Equal(t, FrameOK, plain)
}

func TestSnappyRefuses(t *testing.T) {
	chunk := string(new(SnappyWriter).Encode(nil, []byte("some text, some text, some text, some text")))[len(snappyMagic):]
	flipped := []byte(chunk)
	flipped[len(flipped)-1] ^= 1
	tooLong := string(s2.EncodeSnappy(nil, make([]byte, snappyBlock+1)))
	for name, stream := range map[string]string{
		"no identifier":        chunk,
		"skip first":           "\x80\x01\x00\x00x",
		"other identifier":     "\xff\x06\x00\x00sNaPpX",
		"short identifier":     "\xff\x05\x00\x00sNaPp",
		"flipped":              snappyMagic + string(flipped),
		"checksum":             snappyMagic + "\x01\x05\x00\x00ccccx",
		"reserved":             snappyMagic + "\x02\x04\x00\x00xxxx",
		"no room for checksum": snappyMagic + "\x00\x03\x00\x00xxx",
		"too large a body":     snappyMagic + "\x00\xff\xff\x7f",
		"too large a block":    snappyMagic + "\x00" + string([]byte{byte(len(tooLong) + 4), byte((len(tooLong) + 4) >> 8), 0}) + "cccc" + tooLong,
		"not snappy":           snappyMagic + "\x00\x08\x00\x00cccc\x05\xff\xff\xff",
		"no length":            snappyMagic + "\x00\x04\x00\x00cccc",
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 3, 1 << 20} {
				_, err := snappyAll(new(SnappyReader), []byte(stream), constant(size))
				require.ErrorIs(t, err, ErrSnappy)
			}
		})
	}
}

func TestSnappySkips(t *testing.T) {
	stream := snappyMagic + "\xfe\x03\x00\x00xxx" + "\x80\x00\x00\x00" + "\xc0\x00\x10\x00" + string(make([]byte, 1<<12)) + snappyMagic +
		string(new(SnappyWriter).Encode(nil, []byte("x")))
	for _, size := range []int{1, 7, 1000, 100_000} {
		plain, err := snappyAll(new(SnappyReader), []byte(stream), constant(size))
		require.NoError(t, err)
		require.Equal(t, "x", string(plain))
	}
}

// FuzzSnappy holds the reader against the library's. It is stricter in one thing only: the library takes S2 chunks too.
func FuzzSnappy(f *testing.F) {
	f.Add(new(SnappyWriter).Encode(nil, []byte("text text text text text text text")), uint64(1))
	f.Add([]byte(snappyMagic+"\x80\x02\x00\x00xx\xfe\x00\x00\x00"), uint64(2))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		sizes := randomSizes(rand.New(rand.NewPCG(seed, 4)))
		got, err := snappyAll(new(SnappyReader), stream, sizes)
		want, wantErr := io.ReadAll(snappy.NewReader(bytes.NewReader(stream)))
		if err == nil && wantErr == nil {
			require.True(t, bytes.Equal(want, got))
		}
		if err == nil || wantErr == nil {
			n := min(len(want), len(got))
			require.True(t, bytes.Equal(want[:n], got[:n]))
		}
		if len(got) > 0 { // what was accepted is what a writer would give
			again, err := snappyAll(new(SnappyReader), new(SnappyWriter).Encode(nil, got), sizes)
			require.NoError(t, err)
			require.True(t, bytes.Equal(got, again))
		}
	})
}

func TestSnappyAllocatesNothing(t *testing.T) {
	text := inflateText(rand.New(rand.NewPCG(5, 5)), 60_000)
	stream := new(SnappyWriter).Encode(nil, text)
	r, w := new(SnappyReader), &SnappyWriter{begun: true}
	portion, encoded := make([]byte, 0, snappyBlock), make([]byte, 0, 2*snappyBlock)
	require.Zero(t, testing.AllocsPerRun(20, func() {
		if out, used, err := r.Decode(portion, stream); err != nil || len(out) != len(text) || used != len(stream) {
			t.Fatal(len(out), used, err)
		}
		w.Encode(encoded, text)
	}))
}
