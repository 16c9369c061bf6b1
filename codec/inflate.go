package codec

import (
	"encoding/binary"
	"errors"
	"io"
)

// ErrInflate refuses bytes that are no DEFLATE stream.
var ErrInflate = errors.New("flate: corrupt input")

const (
	inflateWindow = 32 << 10 // how far back a match reaches
	inflateBlocks = 64       // dynamic blocks per call
)

// What the next bits of a stream are.
type inflateStep uint8

const (
	stepHeader  inflateStep = iota // the three bits of a block
	stepStored                     // length of a stored block
	stepRaw                        // its bytes
	stepCounts                     // how many lengths a dynamic block has
	stepMeta                       // the lengths of the code that the lengths are in
	stepLengths                    // the lengths
	stepSymbols                    // literals and matches
	stepCopy                       // a match that is not copied yet
	stepEnd                        // behind the last block
)

// Inflater decodes a raw DEFLATE stream (RFC 1951) that comes in pieces of any size, and can stop after any byte of input
// or output: library inflaters latch the end of a piece as an error. What can be had from the input so far is always
// given, in particular everything before a sync marker. The zero value is ready. It has about 40 KiB.
type Inflater struct {
	bits  uint64 // input taken but not decoded, next bit lowest; above have bits it may hold bits of input not taken
	have  uint
	step  inflateStep
	final bool // the current block is the last

	stored   int // bytes left of a stored block
	litLens  int // announced lengths
	distLens int
	metaLens int
	at       int // lengths known
	lengths  [prefixSymbols + 32]uint8

	lit, dist *prefixTable // of the current block
	own       [2]prefixTable

	length, distance int // of the match that is being copied

	window [inflateWindow]byte // ring of the last output
	wrote  int                 // where its next byte goes
	filled int                 // bytes of history in it
}

// Inflate appends to dst what src gives, up to its capacity, and tells how many bytes of src it has taken. Nothing more
// can be had without more input once a call gives nothing and src is used up. Work per call is bounded: by the room in
// dst and by a number of blocks. src is not kept. io.EOF: the stream is complete, what follows is not part of it.
func (f *Inflater) Inflate(dst, src []byte) (out []byte, used int, err error) {
	base := len(dst)
	in := inflateInput{src: src}
	out, err = f.run(dst, base, &in)
	f.remember(out[base:])
	if in.stopped || err != nil { // whole bytes that were taken too early are left
		back := min(int(f.have/8), in.at)
		f.have -= uint(8 * back)
		in.at -= back
	}
	f.bits &= 1<<f.have - 1
	return out, in.at, err
}

type inflateInput struct {
	src     []byte
	at      int
	stopped bool // before it was used up, although there was room
}

// fill takes input until there are 56 bits, or no more of it.
func (f *Inflater) fill(in *inflateInput) {
	if len(in.src)-in.at >= 8 {
		f.bits |= binary.LittleEndian.Uint64(in.src[in.at:]) << f.have
		n := (63 - f.have) >> 3
		in.at += int(n)
		f.have += n * 8
		return
	}
	f.bits &= 1<<f.have - 1
	for f.have <= 55 && in.at < len(in.src) {
		f.bits |= uint64(in.src[in.at]) << f.have
		in.at++
		f.have += 8
	}
}

func (f *Inflater) drop(n uint) {
	f.bits >>= n
	f.have -= n
}

// run works until it lacks input or room.
func (f *Inflater) run(out []byte, base int, in *inflateInput) ([]byte, error) {
	for blocks := 0; ; {
		f.fill(in)
		before, size, taken := f.step, len(out), in.at
		have, at := f.have, f.at
		var err error
		switch f.step {
		case stepHeader:
			if blocks > inflateBlocks {
				in.stopped = true
				return out, nil
			}
			err = f.header()
		case stepStored:
			err = f.storedLength()
		case stepRaw:
			out = f.raw(out, in)
		case stepCounts:
			blocks++
			err = f.counts()
		case stepMeta:
			err = f.meta()
		case stepLengths:
			err = f.readLengths()
		case stepSymbols:
			out, err = f.symbols(out, base, in)
		case stepCopy:
			out = f.copyMatch(out, base)
		case stepEnd:
			return out, io.EOF
		}
		if err != nil {
			return out, err
		}
		if f.step == before && len(out) == size && in.at == taken && f.have == have && f.at == at {
			return out, nil // this step needs more
		}
	}
}

func (f *Inflater) header() error {
	if f.have < 3 {
		return nil
	}
	f.final = f.bits&1 != 0
	kind := f.bits >> 1 & 3
	f.drop(3)
	switch kind {
	case 0:
		f.drop(f.have & 7)
		f.step = stepStored
	case 1:
		f.lit, f.dist = fixedLit, fixedDist
		f.step = stepSymbols
	case 2:
		f.step = stepCounts
	default:
		return ErrInflate
	}
	return nil
}

// blockEnd goes on behind a block.
func (f *Inflater) blockEnd() {
	f.step = stepHeader
	if f.final {
		f.step = stepEnd
	}
}

func (f *Inflater) storedLength() error {
	if f.have < 32 {
		return nil
	}
	n := int(f.bits & 0xffff)
	if uint16(f.bits>>16) != ^uint16(n) {
		return ErrInflate
	}
	f.drop(32)
	f.stored = n
	f.step = stepRaw
	return nil
}

func (f *Inflater) raw(out []byte, in *inflateInput) []byte {
	for f.stored > 0 && f.have >= 8 && len(out) < cap(out) {
		out = append(out, byte(f.bits))
		f.drop(8)
		f.stored--
	}
	if f.have == 0 {
		f.bits = 0
		n := min(f.stored, len(in.src)-in.at, cap(out)-len(out))
		out = append(out, in.src[in.at:in.at+n]...)
		in.at += n
		f.stored -= n
	}
	if f.stored == 0 {
		f.blockEnd()
	}
	return out
}

func (f *Inflater) counts() error {
	if f.have < 14 {
		return nil
	}
	f.litLens = int(f.bits&31) + 257
	f.distLens = int(f.bits>>5&31) + 1
	f.metaLens = int(f.bits>>10&15) + 4
	f.drop(14)
	if f.litLens > 286 || f.distLens > 30 {
		return ErrInflate
	}
	clear(f.lengths[:len(metaOrder)])
	f.at = 0
	f.step = stepMeta
	return nil
}

// metaOrder is the order in which the lengths of the code for lengths come.
var metaOrder = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

func (f *Inflater) meta() error {
	for ; f.at < f.metaLens; f.at++ {
		if f.have < 3 {
			return nil
		}
		f.lengths[metaOrder[f.at]] = uint8(f.bits & 7)
		f.drop(3)
	}
	if !f.own[0].build(f.lengths[:len(metaOrder)]) {
		return ErrInflate
	}
	f.at = 0
	f.step = stepLengths
	return nil
}

// readLengths takes as many lengths as there are bits for. The code they are in lies where the one for literals will be.
func (f *Inflater) readLengths() error {
	total := f.litLens + f.distLens
	for f.at < total {
		symbol, n := f.own[0].find(f.bits, f.have)
		if n == 0 {
			return nil
		}
		if n == prefixNone {
			return ErrInflate
		}
		if symbol < 16 {
			f.drop(n)
			f.lengths[f.at] = uint8(symbol)
			f.at++
			continue
		}
		var value uint8
		extra, least := uint(2), 3
		switch symbol {
		case 16:
			if f.at == 0 {
				return ErrInflate
			}
			value = f.lengths[f.at-1]
		case 17:
			extra = 3
		default:
			extra, least = 7, 11
		}
		if f.have < n+extra {
			return nil
		}
		times := least + int(f.bits>>n&(1<<extra-1))
		f.drop(n + extra)
		if f.at+times > total {
			return ErrInflate
		}
		for range times {
			f.lengths[f.at] = value
			f.at++
		}
	}
	if !f.own[0].build(f.lengths[:f.litLens]) || !f.own[1].build(f.lengths[f.litLens:total]) {
		return ErrInflate
	}
	f.lit, f.dist = &f.own[0], &f.own[1]
	f.step = stepSymbols
	return nil
}
