package codec

// AUTH\n[4 size][secret]

// lineAuth checks the line of an AUTH: the one command that takes no parameter, not even an empty one.
func (s *Splitter) lineAuth(args params, pol Policy) *Error {
	if pol.State != StateInit {
		return errState(KindAuth)
	}
	if _, given := args.next(); given {
		return invalid("AUTH invalid number of parameters")
	}
	s.begin(KindAuth)
	return nil
}

// checkBodySize refuses the size field of an IDENTIFY or AUTH. Unlike publishes, too big comes first.
func checkBodySize(k Kind, size int32, limit int64) *Error {
	if int64(size) > limit {
		return fatal(CodeBadBody, k.String()+" body too big "+tooBig(size, limit))
	}
	if size <= 0 {
		return fatal(CodeBadBody, k.String()+" invalid body size "+itoa(int64(size)))
	}
	return nil
}

// Answers to AUTH, in the order of the checks.
var (
	ErrAuthAlreadySet       = invalid("AUTH already set")
	ErrAuthDisabled         = fatal(CodeAuthDisabled, "AUTH disabled")
	ErrAuthFailed           = fatal(CodeAuthFailed, "AUTH failed") // also when a repeated query fails
	ErrAuthNoAuthorizations = fatal(CodeUnauthorized, "AUTH no authorizations found")
)

// AuthFirst refuses a command of kind k on a connection without a successful AUTH.
func AuthFirst(k Kind) *Error { return fatal(CodeAuthFirst, "AUTH required before "+k.String()) }

// Unauthorized refuses a command of kind k that no authorization allows; channel is empty for publishes.
func Unauthorized(k Kind, topic, channel []byte) *Error {
	return fatal(CodeUnauthorized, "AUTH failed for "+k.String()+" on "+quoted(topic)+" "+quoted(channel))
}

// AppendAuth appends an AUTH.
func AppendAuth(dst, secret []byte) []byte { return appendBody(append(dst, "AUTH\n"...), secret) }
