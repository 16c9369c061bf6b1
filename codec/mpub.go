package codec

import (
	"encoding/binary"
	"slices"
)

// MPUB <topic>\n[4 body size][4 count] then count times [4 size][body]
//
// The declared body size is only range-checked: count and the inner sizes decide where the command ends.

// bodiesKept bounds the slice of bodies (24 bytes each) that a Command keeps from one MPUB for smaller ones.
const bodiesKept = 1 << 16

// lineMpub checks the line of an MPUB and gives it out as KindMpubHead. The error code really is doubled.
func (s *Splitter) lineMpub(args params, cmd *Command) *Error {
	topic, ok := args.next()
	if !ok {
		return invalid("MPUB insufficient number of parameters")
	}
	if !ValidTopic(topic) {
		return fatal(CodeBadTopic, CodeBadTopic+" MPUB topic name "+quoted(topic)+" is not valid")
	}
	s.setTopic(topic)
	s.phase = phaseMpubSize
	cmd.Kind = KindMpubHead
	cmd.Topic = s.topic[:s.topicLen:s.topicLen]
	return nil
}

// nextMpub works on the body of an MPUB; p starts with its size field.
func (s *Splitter) nextMpub(p []byte, cmd *Command) (n int, ok bool, err *Error) {
	if s.phase == phaseMpubSize {
		if len(p) < sizeLen {
			return 0, false, nil
		}
		if err := s.checkMpubSize(int32(binary.BigEndian.Uint32(p))); err != nil {
			return 0, false, err
		}
		s.phase = phaseMpubCount
	}
	if s.phase == phaseMpubCount {
		if len(p) < 2*sizeLen {
			return 0, false, nil
		}
		count := int32(binary.BigEndian.Uint32(p[sizeLen:]))
		if count <= 0 || int64(count) > s.lim.maxMpubCount() {
			return 0, false, fatal(CodeBadBody, "MPUB invalid message count "+itoa(int64(count)))
		}
		s.msgs, s.msg, s.msgAt, s.size = count, 0, 2*sizeLen, 0
		s.phase = phaseMpubBody
	}
	if ok, err = s.walkMpub(p, cmd); !ok {
		return 0, false, err
	}
	cmd.Kind = KindMpub
	cmd.Topic = s.topic[:s.topicLen:s.topicLen]
	s.phase = phaseLine
	return s.msgAt, true, nil
}

func (s *Splitter) checkMpubSize(size int32) *Error {
	if size <= 0 {
		return fatal(CodeBadBody, "MPUB invalid body size "+itoa(int64(size)))
	}
	if int64(size) > s.lim.MaxBodySize {
		return fatal(CodeBadBody, "MPUB body too big "+tooBig(size, s.lim.MaxBodySize))
	}
	return nil
}

// walkMpub goes on over the inner sizes of p from where it stopped. ok: all messages are there, msgAt is the end of the
// command and cmd.Bodies has them. A walk that began in an earlier call could not keep the bodies it saw, since p may
// have moved: they are then collected at the end. So an MPUB is never walked more than twice, in however many pieces
// it comes.
func (s *Splitter) walkMpub(p []byte, cmd *Command) (ok bool, err *Error) {
	at, msg, size := s.msgAt, s.msg, s.size
	collect := msg == 0
	if cap(cmd.Bodies) > bodiesKept && s.msgs <= bodiesKept {
		cmd.Bodies = nil
	}
	bodies := cmd.Bodies[:0]
	for ; msg < s.msgs; msg++ {
		if size == 0 {
			if len(p)-at < sizeLen {
				break
			}
			size = int32(binary.BigEndian.Uint32(p[at:]))
			if size <= 0 || int64(size) > s.lim.MaxMsgSize {
				return false, errMpubMessageSize(msg, size, s.lim.MaxMsgSize)
			}
		}
		if len(p)-at-sizeLen < int(size) {
			break
		}
		start := at + sizeLen
		at = start + int(size)
		size = 0
		if collect {
			bodies = append(bodies, p[start:at:at])
		}
	}
	s.msgAt, s.msg, s.size = at, msg, size
	if ok = msg == s.msgs; ok && !collect {
		bodies = mpubBodies(p, bodies, int(msg))
	}
	cmd.Bodies = bodies
	return ok, nil
}

// errMpubMessageSize refuses an inner size. Only the first of the two texts has the index.
func errMpubMessageSize(msg, size int32, limit int64) *Error {
	if size <= 0 {
		return fatal(CodeBadMessage, "MPUB invalid message("+itoa(int64(msg))+") body size "+itoa(int64(size)))
	}
	return fatal(CodeBadMessage, "MPUB message too big "+tooBig(size, limit))
}

// mpubBodies collects the bodies of an MPUB whose sizes were all accepted and whose bytes are all in p.
func mpubBodies(p []byte, bodies [][]byte, count int) [][]byte {
	bodies = slices.Grow(bodies[:0], count)[:count]
	at := 2 * sizeLen
	for i := range bodies {
		start := at + sizeLen
		at = start + int(binary.BigEndian.Uint32(p[at:]))
		bodies[i] = p[start:at:at]
	}
	return bodies
}

// wantMpub is Want inside the messages of an MPUB: it follows the inner sizes that data shows, so that the session
// moves as much as it can at once.
func (s *Splitter) wantMpub(have int, data []byte) int {
	if s.size == 0 && have != s.msgAt {
		return s.msgAt + sizeLen - have // the first bytes of this size field are elsewhere
	}
	next, msg, size := s.msgAt-have, s.msg, s.size // next: offset in data of the size field of msg
	for ; msg < s.msgs; msg++ {
		if size == 0 {
			if len(data)-next < sizeLen {
				return len(data)
			}
			size = int32(binary.BigEndian.Uint32(data[next:]))
			if size <= 0 || int64(size) > s.lim.MaxMsgSize {
				return next + sizeLen // Next refuses here
			}
		}
		if len(data)-next-sizeLen < int(size) {
			return len(data)
		}
		next += sizeLen + int(size)
		size = 0
	}
	return next
}

// AppendMpub appends an MPUB. bodies must not be empty and have 1 to 2^31-1 bytes each.
func AppendMpub(dst []byte, topic string, bodies [][]byte) []byte {
	size := sizeLen
	for _, body := range bodies {
		size += sizeLen + len(body)
	}
	dst = append(append(dst, "MPUB "...), topic...)
	dst = binary.BigEndian.AppendUint32(append(dst, '\n'), uint32(size))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(bodies)))
	for _, body := range bodies {
		dst = appendBody(dst, body)
	}
	return dst
}
