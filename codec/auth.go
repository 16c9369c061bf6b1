package codec

import "encoding/json"

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

// AppendAuthResponse appends the JSON that answers a successful AUTH: the data of a response frame, without the frame.
func AppendAuthResponse(dst []byte, identity, identityURL string, permissions int) []byte {
	data, err := json.Marshal(struct {
		Identity        string `json:"identity"`
		IdentityURL     string `json:"identity_url"`
		PermissionCount int    `json:"permission_count"`
	}{identity, identityURL, permissions})
	if err != nil {
		panic("BUG: two strings and a number do not encode: " + err.Error())
	}
	return append(dst, data...)
}

// AppendAuth appends an AUTH.
func AppendAuth(dst, secret []byte) []byte { return appendBody(append(dst, "AUTH\n"...), secret) }
