package codec

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// inflateAll feeds stream in pieces of the sizes that next gives, into portions of other such sizes.
func inflateAll(f *Inflater, stream []byte, next func() int) (plain []byte, rest []byte, err error) {
	fed := 0 // bytes of stream shown so far
	taken := 0
	for {
		portion := make([]byte, 0, next())
		out, used, err := f.Inflate(portion, stream[taken:fed])
		plain = append(plain, out...)
		taken += used
		switch {
		case err != nil:
			return plain, stream[taken:], err
		case len(out) > 0 || taken < fed && used > 0:
		case taken < fed:
			return plain, stream[taken:], errors.New("no progress")
		case fed == len(stream):
			return plain, nil, nil
		default:
			fed = min(fed+next(), len(stream))
		}
	}
}

func constant(n int) func() int { return func() int { return n } }

func randomSizes(r *rand.Rand) func() int {
	return func() int {
		switch r.IntN(3) {
		case 0:
			return 1
		case 1:
			return 1 + r.IntN(20)
		}
		return 1 + r.IntN(100_000)
	}
}

// inflateText is compressible, with matches near and far.
func inflateText(r *rand.Rand, size int) []byte {
	text := make([]byte, 0, size)
	for len(text) < size {
		switch r.IntN(4) {
		case 0:
			for range 1 + r.IntN(50) {
				text = append(text, byte(r.Uint32()))
			}
		case 1:
			text = append(text, bytes.Repeat([]byte{byte(r.Uint32())}, 1+r.IntN(1000))...)
		case 2:
			text = fmt.Appendf(text, `{"key":"value %d","n":%d}`, r.IntN(10), r.IntN(1000))
		default:
			if len(text) > 0 {
				from := max(0, len(text)-1-r.IntN(40_000))
				text = append(text, text[from:min(len(text), from+r.IntN(500))]...)
			}
		}
	}
	return text[:size]
}

// Every level, flushes anywhere, pieces of any size: the text comes out, all of it at every flush.
func TestInflateStreams(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		level := r.IntN(12) - 2
		var stream bytes.Buffer
		w, err := flate.NewWriter(&stream, level)
		require.NoError(t, err)
		f := new(Inflater)
		sizes := randomSizes(r)
		for range 1 + r.IntN(6) {
			text := inflateText(r, 1+r.IntN(70_000))
			_, err := w.Write(text)
			require.NoError(t, err)
			require.NoError(t, w.Flush())
			plain, rest, err := inflateAll(f, stream.Bytes(), sizes)
			require.NoError(t, err, "seed %d", seed)
			require.Empty(t, rest)
			require.True(t, bytes.Equal(text, plain), "seed %d, level %d: %d bytes, want %d", seed, level, len(plain), len(text))
			stream.Reset()
		}
		require.NoError(t, w.Close())
		stream.WriteString("behind")
		plain, rest, err := inflateAll(f, stream.Bytes(), sizes)
		require.ErrorIs(t, err, io.EOF)
		require.Empty(t, plain)
		require.Equal(t, "behind"[6-len(rest):], string(rest))
	}
}

// The stream of a stock daemon: the frame OK, as it leaves at level 6.
func TestInflateOKFrame(t *testing.T) {
	plain, _, err := inflateAll(new(Inflater), []byte("\x62\x60\x60\x60\x63\x60\x60\x60\xf0\xf7\x06\x00\x00\x00\xff\xff"), constant(1))
	require.NoError(t, err)
	require.Equal(t, FrameOK, plain)
}

// checkInflate holds the inflater against compress/flate on any bytes.
func checkInflate(t *testing.T, stream []byte, sizes func() int) {
	t.Helper()
	const most = 1 << 20
	want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(stream)), most))
	got, _, err := inflateAll(new(Inflater), stream, sizes)
	if len(want) == most { // a bomb: enough seen
		require.True(t, bytes.HasPrefix(got, want))
		return
	}
	switch {
	case wantErr == nil:
		require.ErrorIs(t, err, io.EOF)
		require.True(t, bytes.Equal(want, got))
	case errors.Is(wantErr, io.ErrUnexpectedEOF): // may be corrupt as well, in what is not decided yet
		require.True(t, err == nil || errors.Is(err, ErrInflate), "%v", err)
		require.True(t, bytes.HasPrefix(got, want), "want %x, got %x", want, got)
	default:
		require.Truef(t, err == nil || errors.Is(err, ErrInflate), "flate: %v, here: %v", wantErr, err)
		if err == nil { // it waits for bits that flate did not need in order to refuse: they must lead to that
			_, _, err = inflateAll(new(Inflater), append(bytes.Clone(stream), 0, 0, 0, 0), sizes)
			_, _, other := inflateAll(new(Inflater), append(bytes.Clone(stream), 255, 255, 255, 255), sizes)
			require.ErrorIs(t, err, ErrInflate)
			require.ErrorIs(t, other, ErrInflate)
		}
		require.True(t, bytes.HasPrefix(got, want))
	}
}

func TestInflateCorrupt(t *testing.T) {
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 2))
		var stream bytes.Buffer
		w, err := flate.NewWriter(&stream, r.IntN(12)-2)
		require.NoError(t, err)
		_, err = w.Write(inflateText(r, 1+r.IntN(3000)))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		b := stream.Bytes()
		for range 1 + r.IntN(3) {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		checkInflate(t, b[:r.IntN(len(b)+1)], randomSizes(r))
		checkInflate(t, b, randomSizes(r))
	}
}

func FuzzInflate(f *testing.F) {
	for _, level := range []int{flate.HuffmanOnly, 0, 1, 6, 9} {
		var stream bytes.Buffer
		w, err := flate.NewWriter(&stream, level)
		require.NoError(f, err)
		_, err = w.Write(inflateText(rand.New(rand.NewPCG(1, 2)), 400))
		require.NoError(f, err)
		require.NoError(f, w.Flush())
		_, err = w.Write([]byte("the end"))
		require.NoError(f, err)
		require.NoError(f, w.Close())
		f.Add(stream.Bytes(), uint64(level+3))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		checkInflate(t, stream, randomSizes(rand.New(rand.NewPCG(seed, 3))))
	})
}

// A call does a bounded amount of work whatever comes in: a portion of output, or a number of blocks.
func TestInflateBounds(t *testing.T) {
	var stream bytes.Buffer
	w, err := flate.NewWriter(&stream, 9)
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 64<<20))
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	f := new(Inflater)
	portion := make([]byte, 0, 1<<10)
	out, used, err := f.Inflate(portion, stream.Bytes())
	require.NoError(t, err)
	require.Len(t, out, 1<<10)
	require.Less(t, used, 200)

	// Dynamic blocks that hold nothing: their tables are the work.
	var block bytes.Buffer
	w, err = flate.NewWriter(&block, 6)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(3, 3))
	for range 1000 {
		_, err = w.Write([]byte{"eeeeeetttaao"[r.IntN(12)]})
		require.NoError(t, err)
	}
	require.NoError(t, w.Flush())
	require.EqualValues(t, 2, block.Bytes()[0]>>1&3, "a dynamic block")
	many := bytes.Repeat(block.Bytes(), 1000)
	_, used, err = new(Inflater).Inflate(make([]byte, 0, 1<<20), many)
	require.NoError(t, err)
	require.Less(t, used, 2*inflateBlocks*block.Len())
}

func TestInflateAllocatesNothing(t *testing.T) {
	var stream bytes.Buffer
	w, err := flate.NewWriter(&stream, 6)
	require.NoError(t, err)
	_, err = w.Write(inflateText(rand.New(rand.NewPCG(5, 5)), 30_000))
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	f := new(Inflater)
	portion := make([]byte, 0, 1<<20)
	require.Zero(t, testing.AllocsPerRun(20, func() {
		if out, used, err := f.Inflate(portion, stream.Bytes()); err != nil || len(out) != 30_000 || used != stream.Len() {
			t.Fatal(len(out), used, err)
		}
	}))
}

func BenchmarkInflate(b *testing.B) {
	var stream bytes.Buffer
	w, err := flate.NewWriter(&stream, 6)
	require.NoError(b, err)
	text := inflateText(rand.New(rand.NewPCG(5, 5)), 1<<20)
	_, err = w.Write(text)
	require.NoError(b, err)
	require.NoError(b, w.Flush())
	b.Run("push", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		f := new(Inflater)
		portion := make([]byte, 0, len(text)+1)
		for b.Loop() {
			if _, _, err := f.Inflate(portion, stream.Bytes()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stdlib", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		portion := make([]byte, len(text))
		for b.Loop() {
			if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(stream.Bytes())), portion); err != nil {
				b.Fatal(err)
			}
		}
	})
}
