package loop

// chain is compression inside TLS.
type chain struct {
	outer, inner Filter
	scratch      *chainScratch
	rest         []byte // decoded by outer, not yet by inner
}

// chainScratch is one loop's memory between the filters of any chain.
type chainScratch struct{ decoded, encoded []byte }

func (s *chainScratch) room() []byte {
	if s.decoded == nil {
		s.decoded = make([]byte, 0, filterPortion)
	}
	return s.decoded
}

// Decode gives what inner makes of the next portion of outer, or of what is left of the last one.
func (f *chain) Decode(dst, wire []byte) (out []byte, used int, more bool, err error) {
	middle := f.rest
	var end error
	outerMore := true
	if len(middle) == 0 {
		middle, used, outerMore, end = f.outer.Decode(f.scratch.room(), wire)
	}
	out, n, innerMore, err := f.inner.Decode(dst, middle)
	switch {
	case err != nil:
		return out, used, false, err
	case n == len(middle):
		f.rest = nil
	case len(f.rest) > 0:
		f.rest = f.rest[n:]
	default: // scratch memory is another's when this returns
		f.rest = append([]byte(nil), middle[n:]...)
	}
	if end != nil && innerMore { // it comes again
		end = nil
	}
	return out, used, innerMore || outerMore, end
}

// Encode gives outer what inner makes of plain.
func (f *chain) Encode(dst, plain []byte) ([]byte, error) {
	var middle []byte
	if len(plain) > 0 {
		var err error
		if middle, err = f.inner.Encode(f.scratch.encoded[:0], plain); err != nil {
			return dst, err
		}
		if cap(middle) <= encodedKept {
			f.scratch.encoded = middle
		}
	}
	return f.outer.Encode(dst, middle)
}

// Owes is true when TLS has something to say; compression never has.
func (f *chain) Owes() bool { return f.outer.Owes() }

// End is that of TLS: a compressed stream just stops.
func (f *chain) End(dst []byte) []byte { return f.outer.End(dst) }

// Weight is what both cost.
func (f *chain) Weight() int { return f.outer.Weight() + f.inner.Weight() }

// Close gives back what both have.
func (f *chain) Close() {
	f.inner.Close()
	f.outer.Close()
}
