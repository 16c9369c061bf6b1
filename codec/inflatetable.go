package codec

import "math/bits"

const (
	prefixCodeMax  = 15 // bits of the longest code
	prefixFastBits = 10 // codes up to this long are found with one look
	prefixSymbols  = 288
)

// prefixTable decodes one canonical prefix code of DEFLATE. It is built in place, so that a stream of blocks allocates nothing.
type prefixTable struct {
	fast    [1 << prefixFastBits]uint16 // by the next bits: symbol<<4 | length; 0: a longer code, or none
	count   [prefixCodeMax + 1]uint16   // codes of each length
	symbols [prefixSymbols]uint16       // in the order of their codes
}

// build makes the code with these lengths (0: symbol unused). It reports false unless the code is complete; a single code
// of one bit and no code at all are accepted, as compress/flate does: bits that match nothing are an error when they come.
func (t *prefixTable) build(lengths []uint8) bool {
	clear(t.fast[:])
	clear(t.count[:])
	for _, n := range lengths {
		t.count[n]++
	}
	t.count[0] = 0
	var code, start [prefixCodeMax + 2]int // of the first code of each length; index of its symbol
	longest := 0
	for n := 1; n <= prefixCodeMax; n++ {
		code[n+1] = (code[n] + int(t.count[n])) << 1
		start[n+1] = start[n] + int(t.count[n])
		if t.count[n] > 0 {
			longest = n
		}
	}
	if longest == 0 {
		return true
	}
	if used := code[longest] + int(t.count[longest]); used != 1<<longest && (used != 1 || longest != 1) {
		return false
	}
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		t.symbols[start[n]] = uint16(symbol)
		start[n]++
		c := code[n]
		code[n]++
		if n > prefixFastBits {
			continue
		}
		for at := int(bits.Reverse16(uint16(c)) >> (16 - n)); at < len(t.fast); at += 1 << n {
			t.fast[at] = uint16(symbol<<4) | uint16(n)
		}
	}
	return true
}

// find gives the symbol at the low end of b, of which have bits are known, and its length. Length 0: more bits are
// needed. prefixNone: no code begins like this.
func (t *prefixTable) find(b uint64, have uint) (symbol int, n uint) {
	if e := t.fast[b&(1<<prefixFastBits-1)]; e != 0 {
		if n = uint(e & 15); n > have {
			return 0, 0
		}
		return int(e >> 4), n
	}
	return t.findLong(b, have)
}

const prefixNone = prefixCodeMax + 1

// findLong goes bit by bit: within each length, codes are consecutive numbers.
func (t *prefixTable) findLong(b uint64, have uint) (symbol int, n uint) {
	code, first, index := 0, 0, 0
	for n = 1; n <= prefixCodeMax; n++ {
		if n > have {
			return 0, 0
		}
		code |= int(b & 1)
		b >>= 1
		count := int(t.count[n])
		if code < first+count {
			return int(t.symbols[index+code-first]), n
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, prefixNone
}
