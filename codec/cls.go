package codec

// CLS\n      NOP\n

func lineCls(pol Policy, cmd *Command) *Error {
	if pol.State != StateSubscribed {
		return errState(KindCls)
	}
	cmd.Kind = KindCls
	return nil
}

// AppendCls appends a CLS.
func AppendCls(dst []byte) []byte { return append(dst, "CLS\n"...) }

// AppendNop appends a NOP.
func AppendNop(dst []byte) []byte { return append(dst, "NOP\n"...) }
