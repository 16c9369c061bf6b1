package codec

// lengthCodes and distanceCodes give the smallest value of a code and how many further bits are added to it.
var (
	lengthCodes   [29]inflateCode
	distanceCodes [30]inflateCode

	fixedLit, fixedDist = fixedTables()
)

type inflateCode struct {
	least uint16
	extra uint8
}

func init() {
	least := 3
	for i := range lengthCodes {
		extra := max(0, i/4-1)
		lengthCodes[i] = inflateCode{uint16(least), uint8(extra)}
		least += 1 << extra
	}
	lengthCodes[28] = inflateCode{258, 0} // has a code of its own, although code 27 reaches it
	least = 1
	for i := range distanceCodes {
		extra := max(0, i/2-1)
		distanceCodes[i] = inflateCode{uint16(least), uint8(extra)}
		least += 1 << extra
	}
}

// fixedTables are those of blocks that bring none.
func fixedTables() (lit, dist *prefixTable) {
	var lengths [prefixSymbols]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	lit, dist = new(prefixTable), new(prefixTable)
	ok := lit.build(lengths[:])
	for i := range 32 {
		lengths[i] = 5
	}
	if !dist.build(lengths[:32]) || !ok {
		panic("BUG: the fixed codes are not complete")
	}
	return lit, dist
}

const symbolEnd = 256 // of a block; matches are above it

// symbols decodes literals and matches, each as a whole or not at all, until the block ends, input or room runs out.
func (f *Inflater) symbols(out []byte, base int, in *inflateInput) ([]byte, error) {
	for len(out) < cap(out) {
		f.fill(in)
		symbol, n := f.lit.find(f.bits, f.have)
		switch {
		case n == 0:
			return out, nil
		case n == prefixNone || symbol > symbolEnd+len(lengthCodes):
			return out, ErrInflate
		case symbol < symbolEnd:
			out = append(out, byte(symbol))
			f.drop(n)
			continue
		case symbol == symbolEnd:
			f.drop(n)
			f.blockEnd()
			return out, nil
		}
		ok, err := f.match(symbol, n)
		if !ok || err != nil {
			return out, err
		}
		if f.distance > f.filled+len(out)-base {
			return out, ErrInflate
		}
		if out = f.copyMatch(out, base); f.step == stepCopy {
			return out, nil
		}
	}
	return out, nil
}

// match decodes the rest of a match whose length symbol has n bits; false: more bits are needed, nothing was taken. A
// match has at most 48 bits, so with 56 it is never cut.
func (f *Inflater) match(symbol int, n uint) (bool, error) {
	code := lengthCodes[symbol-symbolEnd-1]
	extra := uint(code.extra)
	if f.have < n+extra {
		return false, nil
	}
	length := int(code.least) + int(f.bits>>n&(1<<extra-1))
	n += extra
	symbol, bits := f.dist.find(f.bits>>n, f.have-n)
	if bits == 0 {
		return false, nil
	}
	if bits == prefixNone || symbol >= len(distanceCodes) {
		return false, ErrInflate
	}
	n += bits
	code = distanceCodes[symbol]
	extra = uint(code.extra)
	if f.have < n+extra {
		return false, nil
	}
	f.distance = int(code.least) + int(f.bits>>n&(1<<extra-1))
	f.length = length
	f.drop(n + extra)
	f.step = stepCopy
	return true, nil
}

// copyMatch copies what there is room for of the current match. Output before base is only in the window.
func (f *Inflater) copyMatch(out []byte, base int) []byte {
	n := min(f.length, cap(out)-len(out))
	f.length -= n
	for n > 0 {
		from := len(out) - f.distance
		if from >= base {
			// What lies between from and the end repeats itself every f.distance bytes, so each round may copy all of it.
			for n > 0 {
				m := min(n, len(out)-from)
				out = append(out, out[from:from+m]...)
				n -= m
			}
			break
		}
		back := base - from
		at := (f.wrote - back) & (inflateWindow - 1)
		m := min(n, back, inflateWindow-at)
		out = append(out, f.window[at:at+m]...)
		n -= m
	}
	if f.length == 0 {
		f.step = stepSymbols
	}
	return out
}

// remember puts new output into the window.
func (f *Inflater) remember(p []byte) {
	f.filled = min(f.filled+len(p), inflateWindow)
	if len(p) > inflateWindow {
		p = p[len(p)-inflateWindow:]
	}
	for len(p) > 0 {
		n := copy(f.window[f.wrote:], p)
		f.wrote = (f.wrote + n) & (inflateWindow - 1)
		p = p[n:]
	}
}
