package codec

import (
	"bytes"
	"encoding/binary"
)

// phase is what the next undecoded byte of a connection belongs to.
type phase uint8

const (
	phaseLine      phase = iota // a command line
	phaseSize                   // the size field of an IDENTIFY, AUTH, PUB or DPUB
	phaseBody                   // its body
	phaseMpubSize               // the size field of an MPUB: its line was given out as KindMpubHead
	phaseMpubCount              // its count field
	phaseMpubBody               // the size field (size == 0) or the bytes of one of its messages
)

// Splitter cuts the input of one connection into commands. It is owned by the loop of that connection and must not be
// copied after Init. It keeps no reference to the input between calls, only offsets: the unfinished command may have
// been moved in the meantime. Nothing is allocated because a length or a count claims so.
//
// All offsets count from the start of the current command (of its body, for MPUB).
type Splitter struct {
	lim     *Limits
	refused *Error // the refusal that ended decoding; every later call repeats it

	scanned int // phaseLine: bytes known to hold no '\n'
	sizeAt  int // phaseSize, phaseBody: offset of the size field, that is, the length of the line
	num     int64
	msgAt   int   // phaseMpubBody: offset of the size field of message msgIndex
	size    int32 // phaseBody, phaseMpubBody: the size field, once it is known and accepted
	msgs    int32 // phaseMpubBody: messages announced
	msg     int32 // phaseMpubBody: index of the current message

	phase phase
	kind  Kind // phaseSize, phaseBody: the command

	// The topic of the last publish of this connection. An MPUB gives it out, since its line is gone when its body is
	// complete; and a PUB to the same topic needs no second look at the name.
	topicLen uint8
	topic    [NameMax]byte
}

// Init makes s ready for the first command after the magic. lim stays the caller's and is read on every call.
func (s *Splitter) Init(lim *Limits) { *s = Splitter{lim: lim} }

const (
	wordPub = 'P' | 'U'<<8 | 'B'<<16 | ' '<<24
	wordFin = 'F' | 'I'<<8 | 'N'<<16 | ' '<<24
)

// Next decodes the first command of p, which starts where the last decoded command ended.
//
//	ok             cmd is filled; n > 0 bytes are consumed
//	!ok, err nil   incomplete: call again with the same bytes and more; n is 0; decoding goes on where it stopped
//	err not nil    refused, always fatally; n is 0
//
// The line of an MPUB is given out by itself (KindMpubHead), as soon as it is valid, so that the session can ask for
// permission and create the topic before the body is looked at; the body follows as KindMpub.
func (s *Splitter) Next(p []byte, pol Policy, cmd *Command) (n int, ok bool, err *Error) {
	if s.phase == phaseLine && s.scanned == 0 && len(p) >= 4 && !pol.TLSRequired && s.refused == nil {
		switch binary.LittleEndian.Uint32(p) {
		case wordPub:
			n = s.pubFast(p, cmd)
		case wordFin:
			n = finFast(p, pol.State, cmd)
		}
		if n > 0 {
			return n, true, nil
		}
	}
	return s.next(p, pol, cmd)
}

func (s *Splitter) next(p []byte, pol Policy, cmd *Command) (n int, ok bool, err *Error) {
	if s.refused != nil {
		return 0, false, s.refused
	}
	if s.phase == phaseLine {
		n, ok, err = s.nextLine(p, pol, cmd)
	}
	switch s.phase {
	case phaseSize, phaseBody:
		n, ok, err = s.nextBody(p, cmd)
	case phaseMpubSize, phaseMpubCount, phaseMpubBody:
		if !ok { // else this call gave out the head
			n, ok, err = s.nextMpub(p, cmd)
		}
	}
	if err != nil {
		s.refused = err
		return 0, false, err
	}
	return n, ok, nil
}

// nextLine looks for the end of the line and decodes it. For a command with a body it only moves to the next phase.
func (s *Splitter) nextLine(p []byte, pol Policy, cmd *Command) (n int, ok bool, err *Error) {
	window := p[:min(len(p), LineMax)]
	end := bytes.IndexByte(window[s.scanned:], '\n')
	if end < 0 {
		if len(window) == LineMax {
			return 0, false, ErrLineTooLong
		}
		s.scanned = len(window)
		return 0, false, nil
	}
	end += s.scanned
	s.scanned = 0
	line := p[:end:end]
	if end > 0 && line[end-1] == '\r' {
		line = p[: end-1 : end-1]
	}
	cmd.Kind = KindNone
	if err := s.line(line, pol, cmd); err != nil {
		return 0, false, err
	}
	s.sizeAt = end + 1
	if cmd.Kind == KindNone {
		return 0, false, nil
	}
	return end + 1, true, nil
}

// line decodes one line without its end. Commands that are complete with it set cmd.Kind; the others set the phase.
func (s *Splitter) line(line []byte, pol Policy, cmd *Command) *Error {
	word, args := cutWord(line)
	if string(word) == "IDENTIFY" { // exempt from the TLS policy
		return s.lineIdentify(pol)
	}
	if pol.TLSRequired {
		return errTLSRequired(word)
	}
	switch string(word) {
	case "FIN":
		return lineFin(args, pol, cmd)
	case "RDY":
		return s.lineRdy(args, pol, cmd)
	case "REQ":
		return s.lineReq(args, pol, cmd)
	case "PUB":
		return s.linePub(args)
	case "MPUB":
		return s.lineMpub(args, cmd)
	case "DPUB":
		return s.lineDpub(args)
	case "NOP":
		cmd.Kind = KindNop
		return nil
	case "TOUCH":
		return lineTouch(args, pol, cmd)
	case "SUB":
		return lineSub(args, pol, cmd)
	case "CLS":
		return lineCls(pol, cmd)
	case "AUTH":
		return s.lineAuth(args, pol)
	}
	return errUnknown(word)
}

// nextBody works on the body of IDENTIFY, AUTH, PUB and DPUB.
func (s *Splitter) nextBody(p []byte, cmd *Command) (n int, ok bool, err *Error) {
	bodyAt := s.sizeAt + sizeLen
	if s.phase == phaseSize {
		if len(p) < bodyAt {
			return 0, false, nil
		}
		size := int32(binary.BigEndian.Uint32(p[s.sizeAt:]))
		if err := s.checkSize(size); err != nil {
			return 0, false, err
		}
		s.size, s.phase = size, phaseBody
	}
	if len(p)-bodyAt < int(s.size) {
		return 0, false, nil
	}
	end := bodyAt + int(s.size)
	cmd.Kind = s.kind
	cmd.Body = p[bodyAt:end:end]
	switch s.kind {
	case KindPub:
		cmd.Topic = s.topicIn(p, len("PUB "))
	case KindDpub:
		cmd.Topic = s.topicIn(p, len("DPUB "))
		cmd.Num, cmd.Delay = s.num, millis(s.num)
	}
	s.phase = phaseLine
	return end, true, nil
}

// checkSize refuses the size field of the current command. Publishes and the others differ in code, text and order.
func (s *Splitter) checkSize(size int32) *Error {
	if s.kind == KindPub || s.kind == KindDpub {
		return checkMessageSize(s.kind, size, s.lim.MaxMsgSize)
	}
	return checkBodySize(s.kind, size, s.lim.MaxBodySize)
}

// begin starts the body of a command whose line is valid.
func (s *Splitter) begin(k Kind) {
	s.kind, s.phase = k, phaseSize
}

func (s *Splitter) setTopic(name []byte) {
	s.topicLen = uint8(copy(s.topic[:], name))
}

// topicIn is the topic name in a line that has it at offset at.
func (s *Splitter) topicIn(p []byte, at int) []byte {
	end := at + int(s.topicLen)
	return p[at:end:end]
}

// Want tells how many bytes of data can be of use to the unfinished command of which Next has seen the first have
// bytes; data is what arrived after them. It never reaches beyond the end of the command (of its line, for the head of
// an MPUB), and 1 <= Want <= len(data) when data is not empty. A session moves that many bytes to where it keeps the
// command's start, calls Next, and repeats until Next succeeds: the rest of data can then be decoded in place.
func (s *Splitter) Want(have int, data []byte) int {
	want := len(data)
	switch s.phase {
	case phaseLine:
		want = min(want, LineMax-have)
		if want > 0 {
			if i := bytes.IndexByte(data[:want], '\n'); i >= 0 {
				want = i + 1
			}
		}
	case phaseSize:
		want = s.sizeAt + sizeLen - have
	case phaseBody:
		want = s.sizeAt + sizeLen + int(s.size) - have
	case phaseMpubSize:
		want = sizeLen - have
	case phaseMpubCount:
		want = 2*sizeLen - have
	case phaseMpubBody:
		want = s.wantMpub(have, data)
	}
	return min(max(want, 1), len(data))
}

// Truncated is the refusal owed when the input ends inside the body of the current command; nil between commands and
// inside a line. Only what Next has been shown counts.
func (s *Splitter) Truncated() *Error {
	if s.refused != nil {
		return nil
	}
	switch s.phase {
	case phaseSize:
		if s.kind == KindPub || s.kind == KindDpub {
			return fatal(CodeBadMessage, s.kind.String()+" failed to read message body size")
		}
		return fatal(CodeBadBody, s.kind.String()+" failed to read body size")
	case phaseBody:
		if s.kind == KindPub || s.kind == KindDpub {
			return fatal(CodeBadMessage, s.kind.String()+" failed to read message body")
		}
		return fatal(CodeBadBody, s.kind.String()+" failed to read body")
	case phaseMpubSize:
		return fatal(CodeBadBody, "MPUB failed to read body size")
	case phaseMpubCount:
		return fatal(CodeBadBody, "MPUB failed to read message count")
	case phaseMpubBody:
		if s.size == 0 {
			return fatal(CodeBadMessage, "MPUB failed to read message("+itoa(int64(s.msg))+") body size")
		}
		return fatal(CodeBadMessage, "MPUB failed to read message body")
	}
	return nil
}
