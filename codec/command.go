package codec

import (
	"bytes"
	"time"
)

// MagicV2 are the first four bytes of a connection that speaks this protocol.
const MagicV2 = "  V2"

// Kind tells the commands apart.
type Kind uint8

const (
	KindNone Kind = iota // no command; the zero Command has it
	KindIdentify
	KindAuth
	KindSub
	KindRdy
	KindFin
	KindReq
	KindTouch
	KindCls
	KindNop
	KindPub
	KindDpub
	KindMpubHead // the line of an MPUB; its body follows as KindMpub
	KindMpub
)

var kindNames = [...]string{
	KindNone: "", KindIdentify: "IDENTIFY", KindAuth: "AUTH", KindSub: "SUB", KindRdy: "RDY", KindFin: "FIN",
	KindReq: "REQ", KindTouch: "TOUCH", KindCls: "CLS", KindNop: "NOP", KindPub: "PUB", KindDpub: "DPUB",
	KindMpubHead: "MPUB", KindMpub: "MPUB",
}

// String is the command's name on the wire.
func (k Kind) String() string { return kindNames[k] }

// State is where a connection stands; the numbers appear in client stats.
type State uint8

const (
	StateInit       State = 0
	StateSubscribed State = 3
	StateClosing    State = 4
)

// Policy is what the session knows and the order of checks needs.
type Policy struct {
	State         State
	TLSRequired   bool // TLS is required and this connection has none
	HeartbeatsOff bool // the connection's heartbeat interval is -1
}

// Command is one decoded command. Only the fields listed for its kind are set; the others keep what an earlier call
// left there. Slices alias the input given to Next and die with it; they have no room behind them to append to.
//
//	IDENTIFY, AUTH      Body
//	SUB                 Topic, Channel
//	RDY                 Num (a RDY that is to be ignored in closing state arrives as NOP)
//	FIN, TOUCH          ID
//	REQ                 ID, Num, Delay
//	PUB                 Topic, Body
//	DPUB                Topic, Body, Num, Delay
//	MPUB head           Topic
//	MPUB                Topic, Bodies
type Command struct {
	Kind    Kind
	Topic   []byte        // a valid name; for both MPUB kinds an alias of the Splitter's own copy
	Channel []byte        // a valid name
	ID      []byte        // IDLen bytes of any content
	Body    []byte        // at least one byte
	Bodies  [][]byte      // at least one body; the slice itself is reused by the next MPUB decoded into this Command
	Num     int64         // RDY count, or milliseconds as parsed: negative when a huge number wrapped around
	Delay   time.Duration // what Num milliseconds mean: REQ clamped to 0..MaxReqTimeout, DPUB within it
}

// params walks the parameters of a line. Every single space separates, so a parameter may be empty.
type params struct {
	rest []byte // what follows the last separator seen
	more bool   // a separator preceded rest: there is a parameter, maybe an empty one
}

// cutWord separates the command word from its parameters.
func cutWord(line []byte) (word []byte, args params) {
	for i, c := range line { // words are too short for a call to bytes.IndexByte to pay
		if c == ' ' {
			return line[:i:i], params{rest: line[i+1:], more: true}
		}
	}
	return line, params{}
}

// next gives the next parameter, without room behind it; ok is false when there is none.
func (a *params) next() (param []byte, ok bool) {
	if !a.more {
		return nil, false
	}
	if i := bytes.IndexByte(a.rest, ' '); i >= 0 {
		param, a.rest = a.rest[:i:i], a.rest[i+1:]
		return param, true
	}
	param, a.rest, a.more = a.rest, nil, false
	return param, true
}

// parseDecimal reads ASCII digits with silent wraparound at 64 bits. The empty string is 0. Anything but a digit gives
// false.
func parseDecimal(b []byte) (n uint64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// millis turns milliseconds into a duration with the same silent wraparound.
func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
