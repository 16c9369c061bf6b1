package loop

import (
	"encoding/binary"

	"github.com/klauspost/compress/flate"

	"github.com/nsqloop/nsqloop/codec"
)

// snappyFilter compresses in the snappy framing format, one chunk per piece.
type snappyFilter struct {
	in  codec.SnappyReader
	out codec.SnappyWriter
}

const snappyWeight = 4

// Decode gives whole chunks.
func (f *snappyFilter) Decode(dst, wire []byte) (out []byte, used int, more bool, err error) {
	out, used, err = f.in.Decode(dst, wire)
	return out, used, len(out) > 0 || used < len(wire), err
}

// Encode makes a chunk.
func (f *snappyFilter) Encode(dst, plain []byte) ([]byte, error) {
	return f.out.Encode(dst, plain), nil
}

// Owes is false: the format has no talk of its own.
func (f *snappyFilter) Owes() bool { return false }

// End has nothing to add.
func (f *snappyFilter) End(dst []byte) []byte { return dst }

// Weight of snappy.
func (f *snappyFilter) Weight() int { return snappyWeight }

// Close has nothing to give back.
func (f *snappyFilter) Close() {}

// deflateFilter compresses with raw DEFLATE, one stream each way, a sync marker behind every piece.
type deflateFilter struct {
	in    codec.Inflater
	pool  *deflaters
	level int
	own   *flate.Writer // nil until there is something worth it, and for ever beyond deflatersMax
}

const (
	// deflateWorth is the size in bytes below which a connection without a compressor does without: answers of a
	// producer, heartbeats.
	deflateWorth = 256

	// deflatersMax bounds the compressors that connections of one loop have for themselves. Each takes 0.6 to 1.2 MB,
	// which connections beyond it share: the same format, but nothing is found again that was sent earlier.
	deflatersMax = 128
)

// deflaters are one loop's compressors.
type deflaters struct {
	owned  int
	shared [10]*flate.Writer // by level
	sink   sliceWriter
}

type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// Decode inflates.
func (f *deflateFilter) Decode(dst, wire []byte) (out []byte, used int, more bool, err error) {
	out, used, err = f.in.Inflate(dst, wire)
	return out, used, len(out) > 0 || used < len(wire), err
}

// Encode appends a piece and a sync marker.
func (f *deflateFilter) Encode(dst, plain []byte) ([]byte, error) {
	if len(plain) == 0 {
		return dst, nil
	}
	if f.own == nil && len(plain) < deflateWorth {
		return appendStored(dst, plain), nil
	}
	w, err := f.writer()
	if err != nil {
		return dst, err
	}
	sink := &f.pool.sink
	sink.b = dst
	if _, err = w.Write(plain); err == nil {
		err = w.Flush()
	}
	dst, sink.b = sink.b, nil
	return dst, err
}

// writer gives the connection's compressor, else the one that is shared, without a memory of what it saw before. Either
// may begin in the midst of a stream: it never refers to anything before its own beginning.
func (f *deflateFilter) writer() (*flate.Writer, error) {
	p := f.pool
	if f.own != nil {
		return f.own, nil
	}
	if p.owned < deflatersMax {
		w, err := flate.NewWriter(&p.sink, f.level)
		if err == nil {
			f.own = w
			p.owned++
		}
		return w, err
	}
	if p.shared[f.level] == nil {
		w, err := flate.NewWriter(&p.sink, f.level)
		if err != nil {
			return nil, err
		}
		p.shared[f.level] = w
	}
	p.shared[f.level].Reset(&p.sink)
	return p.shared[f.level], nil
}

// appendStored appends plain as a stored block and the empty one that is a sync marker.
func appendStored(dst, plain []byte) []byte {
	dst = append(dst, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(plain)))
	dst = binary.LittleEndian.AppendUint16(dst, ^uint16(len(plain)))
	dst = append(dst, plain...)
	return append(dst, 0, 0, 0, 0xff, 0xff)
}

// Owes is false: the format has no talk of its own.
func (f *deflateFilter) Owes() bool { return false }

// End has nothing to add: clients expect the stream to just stop.
func (f *deflateFilter) End(dst []byte) []byte { return dst }

// Weight goes by the level: level 9 is an order of magnitude dearer than 1.
func (f *deflateFilter) Weight() int {
	switch {
	case f.level <= 3:
		return 16
	case f.level <= 6:
		return 32
	}
	return 128
}

// Close gives the compressor back.
func (f *deflateFilter) Close() {
	if f.own != nil {
		f.own = nil
		f.pool.owned--
	}
}
