package codec

import (
	"encoding/binary"
	"time"
)

// FIN <id>\n      REQ <id> <ms>\n      TOUCH <id>\n
//
// What is refused here is fatal; what the lease refuses (OutcomeFailed) is not.

// mayAck tells whether a connection in this state may finish, requeue and touch.
func mayAck(st State) bool { return st == StateSubscribed || st == StateClosing }

func lineFin(args params, pol Policy, cmd *Command) *Error {
	return lineID(KindFin, args, pol, cmd)
}

func lineTouch(args params, pol Policy, cmd *Command) *Error {
	return lineID(KindTouch, args, pol, cmd)
}

func lineID(k Kind, args params, pol Policy, cmd *Command) *Error {
	if !mayAck(pol.State) {
		return errState(k)
	}
	id, ok := args.next()
	if !ok {
		return invalid(k.String() + " insufficient number of params")
	}
	if len(id) != IDLen {
		return errMessageID
	}
	cmd.Kind, cmd.ID = k, id
	return nil
}

func (s *Splitter) lineReq(args params, pol Policy, cmd *Command) *Error {
	if !mayAck(pol.State) {
		return errState(KindReq)
	}
	id, _ := args.next()
	raw, ok := args.next()
	if !ok {
		return invalid("REQ insufficient number of params")
	}
	if len(id) != IDLen {
		return errMessageID
	}
	ms, ok := parseDecimal(raw)
	if !ok {
		return invalid("REQ could not parse timeout " + string(raw))
	}
	cmd.Kind, cmd.ID = KindReq, id
	cmd.Num, cmd.Delay = int64(ms), ReqDelay(int64(ms), s.lim.MaxReqTimeout)
	return nil
}

var errMessageID = invalid("invalid message ID")

// ReqDelay is the delay that REQ <ms> asks for: clamped silently to 0..limit, where a number so huge that it wrapped
// below zero counts as 0.
func ReqDelay(ms int64, limit time.Duration) time.Duration {
	return min(max(millis(ms), 0), limit)
}

// finFast decodes "FIN <16 bytes>\n" and gives its length; 0 leaves the bytes to the full decoder.
func finFast(p []byte, st State, cmd *Command) int {
	const (
		idAt    = len("FIN ")
		lineEnd = idAt + IDLen
	)
	if len(p) <= lineEnd || p[lineEnd] != '\n' || !mayAck(st) {
		return 0
	}
	id := p[idAt:lineEnd:lineEnd]
	if anyControl(binary.LittleEndian.Uint64(id)) || anyControl(binary.LittleEndian.Uint64(id[8:])) {
		return 0
	}
	cmd.Kind, cmd.ID = KindFin, id
	return lineEnd + 1
}

// anyControl tells whether one of the eight bytes of w is a space or below: the separators '\n', '\r' and ' ' are.
func anyControl(w uint64) bool {
	return (w-(' '+1)*eachByte)&^w&(0x80*eachByte) != 0
}

// OutcomeFailed is the non-fatal refusal of a FIN, REQ or TOUCH (k) by the lease, such as "ID not in flight". id is
// shown raw.
func OutcomeFailed(k Kind, id []byte, reason string) *Error {
	code := CodeFinFailed
	switch k {
	case KindReq:
		code = CodeReqFailed
	case KindTouch:
		code = CodeTouchFailed
	}
	return &Error{Code: code, Desc: k.String() + " " + string(id) + " failed " + reason}
}

// AppendFin appends a FIN.
func AppendFin(dst, id []byte) []byte {
	return append(append(append(dst, "FIN "...), id...), '\n')
}

// AppendTouch appends a TOUCH.
func AppendTouch(dst, id []byte) []byte {
	return append(append(append(dst, "TOUCH "...), id...), '\n')
}

// AppendReq appends a REQ with a delay in whole milliseconds.
func AppendReq(dst, id []byte, delay time.Duration) []byte {
	dst = append(append(append(dst, "REQ "...), id...), ' ')
	return append(appendInt(dst, delay.Milliseconds()), '\n')
}
