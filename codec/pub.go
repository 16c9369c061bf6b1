package codec

import (
	"encoding/binary"
	"time"
)

// PUB <topic>\n[4 size][body]
// DPUB <topic> <ms>\n[4 size][body]

// linePub checks the line of a PUB.
func (s *Splitter) linePub(args params) *Error {
	topic, ok := args.next()
	if !ok {
		return invalid("PUB insufficient number of parameters")
	}
	if !ValidTopic(topic) {
		return fatal(CodeBadTopic, "PUB topic name "+quoted(topic)+" is not valid")
	}
	s.setTopic(topic)
	s.begin(KindPub)
	return nil
}

// lineDpub checks the line of a DPUB. Its time is refused before the body is looked at, and never clamped.
func (s *Splitter) lineDpub(args params) *Error {
	topic, _ := args.next()
	raw, ok := args.next()
	if !ok {
		return invalid("DPUB insufficient number of parameters")
	}
	if !ValidTopic(topic) {
		return fatal(CodeBadTopic, "DPUB topic name "+quoted(topic)+" is not valid")
	}
	ms, ok := parseDecimal(raw)
	if !ok {
		return invalid("DPUB could not parse timeout " + string(raw))
	}
	// The product may wrap into the range: such a number is accepted for what it became.
	if delay := millis(int64(ms)); delay < 0 || delay > s.lim.MaxReqTimeout {
		return invalid("DPUB timeout " + utoa(ms) + " out of range 0-" + itoa(s.lim.MaxReqTimeout.Milliseconds()))
	}
	s.num = int64(ms)
	s.setTopic(topic)
	s.begin(KindDpub)
	return nil
}

// checkMessageSize refuses the size field of a PUB or DPUB.
func checkMessageSize(k Kind, size int32, limit int64) *Error {
	if size <= 0 {
		return fatal(CodeBadMessage, k.String()+" invalid message body size "+itoa(int64(size)))
	}
	if int64(size) > limit {
		return fatal(CodeBadMessage, k.String()+" message too big "+tooBig(size, limit))
	}
	return nil
}

// pubFast decodes a whole PUB to the topic of the connection's last publish and gives its length; 0 leaves the bytes
// to the full decoder.
func (s *Splitter) pubFast(p []byte, cmd *Command) int {
	const topicAt = len("PUB ")
	lineEnd := topicAt + int(s.topicLen)
	bodyAt := lineEnd + 1 + sizeLen
	if s.topicLen == 0 || len(p) < bodyAt || p[lineEnd] != '\n' ||
		string(p[topicAt:lineEnd]) != string(s.topic[:s.topicLen]) {
		return 0
	}
	size := int32(binary.BigEndian.Uint32(p[lineEnd+1:]))
	if size <= 0 || int64(size) > s.lim.MaxMsgSize || len(p)-bodyAt < int(size) {
		return 0
	}
	end := bodyAt + int(size)
	cmd.Kind = KindPub
	cmd.Topic = p[topicAt:lineEnd:lineEnd]
	cmd.Body = p[bodyAt:end:end]
	return end
}

// PublishFailed is the refusal of a PUB, MPUB or DPUB (k) by the queue: "exiting", or the disk's error.
func PublishFailed(k Kind, reason string) *Error {
	code := CodePubFailed
	switch k {
	case KindMpub, KindMpubHead:
		code = CodeMpubFailed
	case KindDpub:
		code = CodeDpubFailed
	}
	return fatal(code, k.String()+" failed "+reason)
}

// AppendPub appends a PUB. body must have 1 to 2^31-1 bytes.
func AppendPub(dst []byte, topic string, body []byte) []byte {
	dst = append(append(dst, "PUB "...), topic...)
	return appendBody(append(dst, '\n'), body)
}

// AppendDpub appends a DPUB that is due after delay, in whole milliseconds.
func AppendDpub(dst []byte, topic string, delay time.Duration, body []byte) []byte {
	dst = append(append(dst, "DPUB "...), topic...)
	dst = appendInt(append(dst, ' '), delay.Milliseconds())
	return appendBody(append(dst, '\n'), body)
}

func appendBody(dst, body []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)))
	return append(dst, body...)
}
