package codec

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
)

// The snappy framing format: chunks of [1 type][3 length, little-endian][data]. Chunks with data are compressed (0) or
// plain (1), and both begin with a checksum of what they decode to; the stream begins with an identifier (0xff).

const (
	snappyHead    = 4
	snappySum     = 4
	snappyBlock   = 64 << 10 // plain bytes of one chunk at most
	snappyBodyMax = snappySum + 10 + snappyBlock + snappyBlock/6 + 32

	snappyCompressed = 0x00
	snappyPlain      = 0x01
	snappySkippable  = 0x80 // and above
	snappyIdentifier = 0xff
)

const snappyMagic = "\xff\x06\x00\x00sNaPpY"

// ErrSnappy refuses bytes that are no snappy stream in the framing format.
var ErrSnappy = errors.New("snappy: corrupt input")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snappyChecksum is the masked CRC-32C of plain bytes.
func snappyChecksum(plain []byte) uint32 {
	c := crc32.Update(0, castagnoli, plain)
	return (c>>15 | c<<17) + 0xa282ead8
}

// SnappyReader decodes a snappy stream that comes in pieces of any size. The zero value is ready. Between chunks it owns
// no memory.
type SnappyReader struct {
	begun bool // the identifier was seen
	skip  int  // bytes left of a chunk without meaning
	part  []byte
}

// Decode appends to dst what the complete chunks at the start of wire give, as far as there is room, and tells how many
// bytes of wire it has taken. Into an empty dst with room for 64 KiB every chunk fits. Nothing more can be had without
// more of wire once a call with an empty dst gives nothing and wire is used up. wire is not kept.
func (r *SnappyReader) Decode(dst, wire []byte) (out []byte, used int, err error) {
	out = dst
	for {
		if r.skip > 0 {
			n := min(r.skip, len(wire)-used)
			r.skip -= n
			used += n
		}
		rest := wire[used:]
		if r.skip > 0 || len(rest) == 0 && len(r.part) == 0 {
			return out, used, nil
		}
		chunk := rest
		if len(r.part) > 0 {
			used += r.gather(rest)
			chunk = r.part
		}
		size, err := r.chunkSize(chunk)
		if err != nil {
			return out, used, err
		}
		if size == 0 || len(chunk) < size {
			if len(r.part) == 0 {
				r.part = append(r.part, chunk...)
				used += len(chunk)
			}
			if used == len(wire) {
				return out, used, nil
			}
			continue
		}
		grown, fits, err := r.chunk(out, chunk[:size])
		if err != nil || !fits {
			return out, used, err
		}
		out = grown
		if len(r.part) > 0 {
			r.part = nil
		} else {
			used += size
		}
	}
}

// gather moves what is missing of the chunk in r.part behind it: first its head, then the rest.
func (r *SnappyReader) gather(rest []byte) (n int) {
	for {
		want := snappyHead
		if len(r.part) >= snappyHead {
			want, _ = r.chunkSize(r.part) // refused before it is looked at again
		}
		m := min(want-len(r.part), len(rest)-n)
		if m <= 0 {
			return n
		}
		r.part = append(r.part, rest[n:n+m]...)
		n += m
	}
}

// chunkSize is the length of the chunk that p begins with, as far as it must be gathered: head and body, or the head
// alone for one that is skipped. 0: the head is not complete.
func (r *SnappyReader) chunkSize(p []byte) (int, error) {
	if len(p) < snappyHead {
		return 0, nil
	}
	body := chunkBody(p)
	switch kind := p[0]; {
	case kind == snappyIdentifier:
		if body != len(snappyMagic)-snappyHead {
			return 0, ErrSnappy
		}
	case !r.begun:
		return 0, ErrSnappy
	case kind >= snappySkippable:
		return snappyHead, nil
	case kind > snappyPlain || body < snappySum || body > snappyBodyMax:
		return 0, ErrSnappy
	}
	return snappyHead + body, nil
}

func chunkBody(p []byte) int { return int(p[1]) | int(p[2])<<8 | int(p[3])<<16 }

// chunk takes one complete chunk; false: it does not fit.
func (r *SnappyReader) chunk(out, p []byte) ([]byte, bool, error) {
	switch kind := p[0]; {
	case kind == snappyIdentifier:
		if string(p) != snappyMagic {
			return out, false, ErrSnappy
		}
		r.begun = true
		return out, true, nil
	case kind >= snappySkippable:
		r.skip = chunkBody(p)
		return out, true, nil
	}
	sum := binary.LittleEndian.Uint32(p[snappyHead:])
	data := p[snappyHead+snappySum:]
	size := len(data)
	if p[0] == snappyCompressed {
		var err error
		if size, err = s2.DecodedLen(data); err != nil {
			return out, false, ErrSnappy
		}
	}
	if size > snappyBlock {
		return out, false, ErrSnappy
	}
	if size > cap(out)-len(out) {
		if len(out) == 0 {
			panic("BUG: no room for a chunk")
		}
		return out, false, nil
	}
	at := len(out)
	if p[0] == snappyCompressed {
		if _, err := s2.Decode(out[at:at:at+size], data); err != nil {
			return out, false, ErrSnappy
		}
		out = out[:at+size]
	} else {
		out = append(out, data...)
	}
	if snappyChecksum(out[at:]) != sum {
		return out[:at], false, ErrSnappy
	}
	return out, true, nil
}

// SnappyWriter encodes a snappy stream. The zero value is ready.
type SnappyWriter struct{ begun bool }

// Encode appends plain to dst as chunks, which the peer can decode at once, behind the identifier the first time. What
// does not shrink by an eighth goes out as it is.
func (w *SnappyWriter) Encode(dst, plain []byte) []byte {
	if !w.begun && len(plain) > 0 {
		w.begun = true
		dst = append(dst, snappyMagic...)
	}
	for len(plain) > 0 {
		block := plain[:min(len(plain), snappyBlock)]
		plain = plain[len(block):]
		dst = appendChunk(dst, block)
	}
	return dst
}

func appendChunk(dst, block []byte) []byte {
	const head = snappyHead + snappySum
	at := len(dst)
	if need := head + s2.MaxEncodedLen(len(block)); cap(dst)-at < need {
		dst = append(dst, make([]byte, need)...)[:at]
	}
	chunk := dst[at:cap(dst)]
	kind := byte(snappyCompressed)
	n := len(s2.EncodeSnappy(chunk[head:], block))
	if n >= len(block)-len(block)/8 {
		kind = snappyPlain
		n = copy(chunk[head:], block)
	}
	body := snappySum + n
	chunk[0], chunk[1], chunk[2], chunk[3] = kind, byte(body), byte(body>>8), byte(body>>16)
	binary.LittleEndian.PutUint32(chunk[snappyHead:], snappyChecksum(block))
	return dst[:at+head+n]
}
