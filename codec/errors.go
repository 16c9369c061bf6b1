package codec

import "strconv"

// Error codes as they stand on the wire.
const (
	CodeBadProtocol    = "E_BAD_PROTOCOL"
	CodeInvalid        = "E_INVALID"
	CodeBadTopic       = "E_BAD_TOPIC"
	CodeBadChannel     = "E_BAD_CHANNEL"
	CodeBadBody        = "E_BAD_BODY"
	CodeBadMessage     = "E_BAD_MESSAGE"
	CodeIdentifyFailed = "E_IDENTIFY_FAILED"
	CodeAuthDisabled   = "E_AUTH_DISABLED"
	CodeAuthFailed     = "E_AUTH_FAILED"
	CodeAuthFirst      = "E_AUTH_FIRST"
	CodeUnauthorized   = "E_UNAUTHORIZED"
	CodeSubFailed      = "E_SUB_FAILED"
	CodePubFailed      = "E_PUB_FAILED"
	CodeMpubFailed     = "E_MPUB_FAILED"
	CodeDpubFailed     = "E_DPUB_FAILED"
	CodeFinFailed      = "E_FIN_FAILED"
	CodeReqFailed      = "E_REQ_FAILED"
	CodeTouchFailed    = "E_TOUCH_FAILED"
)

// Error is a refusal: what the client did wrong, in the words it is told. Values are shared and never changed after
// they were made. Functions return it as *Error, not as error, so that a nil stays a nil.
type Error struct {
	Code  string // empty: close without a frame
	Desc  string // empty only for E_BAD_PROTOCOL, which is sent bare
	Fatal bool   // the connection is closed once the frame is written
}

// Error is the data of the error frame.
func (e *Error) Error() string {
	if e.Desc == "" {
		return e.Code
	}
	return e.Code + " " + e.Desc
}

var (
	// ErrBadProtocol answers four first bytes that are not MagicV2.
	ErrBadProtocol = &Error{Code: CodeBadProtocol, Fatal: true}

	// ErrLineTooLong: LineMax bytes without a '\n'. Has no frame: AppendError appends nothing for it.
	ErrLineTooLong = &Error{Fatal: true}
)

func fatal(code, desc string) *Error { return &Error{Code: code, Desc: desc, Fatal: true} }

func invalid(desc string) *Error { return fatal(CodeInvalid, desc) }

// errState refuses a command that is known but not allowed now.
func errState(k Kind) *Error { return invalid("cannot " + k.String() + " in current state") }

// errTLSRequired repeats the first word of the line raw, whatever it is.
func errTLSRequired(word []byte) *Error {
	return invalid("cannot " + string(word) + " in current state (TLS required)")
}

func errUnknown(word []byte) *Error { return invalid("invalid command " + string(word)) }

// Quote appends raw in double quotes as refusals show names: printable Unicode unchanged, the usual backslash escapes,
// \xNN for other control bytes and for bytes of invalid UTF-8, \uNNNN or \UNNNNNNNN for what is not printable.
func Quote(dst, raw []byte) []byte { return strconv.AppendQuote(dst, string(raw)) }

func quoted(raw []byte) string { return strconv.Quote(string(raw)) }

// tooBig is the common tail of the size refusals: "<n> > <max>".
func tooBig(n int32, limit int64) string {
	return itoa(int64(n)) + " > " + itoa(limit)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
