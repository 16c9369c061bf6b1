package codec

import "strconv"

// RDY [count]\n

// lineRdy decodes a RDY. In closing state it is ignored unparsed: NOP stands for that.
func (s *Splitter) lineRdy(args params, pol Policy, cmd *Command) *Error {
	if pol.State == StateClosing {
		cmd.Kind = KindNop
		return nil
	}
	if pol.State != StateSubscribed {
		return errState(KindRdy)
	}
	count := int64(1)
	if raw, given := args.next(); given {
		n, ok := parseDecimal(raw)
		if !ok {
			return invalid("RDY could not parse count " + string(raw))
		}
		count = int64(n)
	}
	if count < 0 || count > s.lim.MaxRdyCount {
		return invalid("RDY count " + itoa(count) + " out of range 0-" + itoa(s.lim.MaxRdyCount))
	}
	cmd.Kind, cmd.Num = KindRdy, count
	return nil
}

// AppendRdy appends a RDY.
func AppendRdy(dst []byte, count int64) []byte {
	return append(appendInt(append(dst, "RDY "...), count), '\n')
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }
