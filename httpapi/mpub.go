package httpapi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/nsqloop/nsqloop/fanout"
	"github.com/valyala/fasthttp"
)

// mpubBefore does what precedes the body: its declared length, the query, and making the topic.
func mpubBefore(s *Server, r *request) (reply, bool) {
	topic, refusal := s.mpubTopic(r)
	return refusal, topic == nil
}

func (s *Server) mpubTopic(r *request) (*fanout.Topic, reply) {
	if int64(r.ctx.Request.Header.ContentLength()) > s.o.MaxBodySize {
		dropUnread(r.ctx, r.ctx.Request.Header.ContentLength())
		return nil, fail(fasthttp.StatusRequestEntityTooLarge, "BODY_TOO_BIG")
	}
	return s.publishTopic(r)
}

// mpub publishes many messages, all or none: the body is checked to its end before the first message is appended.
func mpub(s *Server, r *request) reply {
	topic, refusal := s.mpubTopic(r)
	if topic == nil {
		return refusal
	}
	b := s.openBody(r.ctx, s.o.MaxBodySize)
	defer b.release()
	var next func(rest []byte) (message, after []byte)
	var messages []byte
	if s.binaryMode(r.args) {
		messages, refusal = s.readBinary(b)
		next = nextBinary
	} else {
		messages, refusal = s.readLines(b)
		next = nextLine
	}
	if refusal.status != 0 {
		return refusal
	}
	if err := publishAll(topic, messages, next); err != nil {
		return s.publishFailed(topic, err)
	}
	return okReply
}

// binaryMode reads the "binary" parameter. Unknown values, the empty one too, mean true.
func (s *Server) binaryMode(args query) bool {
	value, ok := args.get("binary")
	if !ok {
		return false
	}
	switch string(value) {
	case "false", "0":
		return false
	case "true", "1":
	default:
		s.o.Log.Warnf("deprecated value '%s' used for /mpub binary param", value)
	}
	return true
}

// readLines reads a text body: messages that end in \n, the last one also without it. Each line is checked as soon as it is complete, so a
// line that is too long is refused although more is to come.
func (s *Server) readLines(b *body) ([]byte, reply) {
	start := 0 // of the line that is not complete yet
	for {
		more := b.more()
		for {
			i := bytes.IndexByte(b.buf[start:], '\n')
			if i < 0 {
				break
			}
			end := start + i
			if int64(end) >= s.o.MaxBodySize {
				return nil, fail(fasthttp.StatusRequestEntityTooLarge, "BODY_TOO_BIG")
			}
			if int64(i) > s.o.MaxMsgSize {
				return nil, fail(fasthttp.StatusRequestEntityTooLarge, "MSG_TOO_BIG")
			}
			start = end + 1
		}
		if !more {
			break
		}
	}
	switch {
	case errors.Is(b.err, errBodyTooLong) || int64(b.read) > s.o.MaxBodySize:
		return nil, fail(fasthttp.StatusRequestEntityTooLarge, "BODY_TOO_BIG")
	case !b.complete():
		return nil, fail(fasthttp.StatusInternalServerError, "INTERNAL_ERROR")
	case int64(len(b.buf)-start) > s.o.MaxMsgSize:
		return nil, fail(fasthttp.StatusRequestEntityTooLarge, "MSG_TOO_BIG")
	}
	return b.buf, reply{}
}

// nextLine cuts the next message off rest. An empty message is not one.
func nextLine(rest []byte) (message, after []byte) {
	message, after, _ = bytes.Cut(rest, []byte{'\n'})
	return message, after
}

// The least a message takes in a binary body: its size and one byte.
const (
	binarySizeField = 4
	binaryPerMsgMin = binarySizeField + 1
)

// readBinary reads [4 count] then count times [4 size][message]. What follows the last message is not read. A declared length above the
// limit was refused before; a chunked body is held to the same limit.
func (s *Server) readBinary(b *body) ([]byte, reply) {
	if !b.need(binarySizeField) {
		return nil, fail(fasthttp.StatusRequestEntityTooLarge, "BAD_BODY")
	}
	count := int64(int32(binary.BigEndian.Uint32(b.buf)))
	if count <= 0 || count > (s.o.MaxBodySize-binarySizeField)/binaryPerMsgMin {
		return nil, fail(fasthttp.StatusRequestEntityTooLarge, "BAD_BODY")
	}
	at := binarySizeField
	for range count {
		if !b.need(at + binarySizeField) {
			return nil, b.badMessage()
		}
		size := int64(int32(binary.BigEndian.Uint32(b.buf[at:])))
		if size <= 0 || size > s.o.MaxMsgSize {
			return nil, fail(fasthttp.StatusRequestEntityTooLarge, "BAD_MESSAGE")
		}
		at += binarySizeField
		if !b.need(at + int(size)) {
			return nil, b.badMessage()
		}
		at += int(size)
	}
	return b.buf[binarySizeField:at], reply{}
}

// badMessage tells a body that ended from one that was cut off at the limit.
func (b *body) badMessage() reply {
	if errors.Is(b.err, errBodyTooLong) {
		return fail(fasthttp.StatusRequestEntityTooLarge, "BODY_TOO_BIG")
	}
	return fail(fasthttp.StatusRequestEntityTooLarge, "BAD_MESSAGE")
}

// nextBinary cuts the next message off rest, which was checked.
func nextBinary(rest []byte) (message, after []byte) {
	size := int(binary.BigEndian.Uint32(rest))
	return rest[binarySizeField : binarySizeField+size], rest[binarySizeField+size:]
}

// publishStep is how many messages are appended at a time: it bounds what a body of a million tiny ones needs beside itself.
const publishStep = 4096

var bodiesPool = sync.Pool{New: func() any { b := make([][]byte, 0, publishStep); return &b }}

// publishAll appends every message and then waits until all of them are as safe as the sync policy promises.
func publishAll(topic *fanout.Topic, messages []byte, next func([]byte) (message, after []byte)) error {
	pooled := bodiesPool.Get().(*[][]byte)
	defer func() {
		clear(*pooled)
		*pooled = (*pooled)[:0]
		bodiesPool.Put(pooled)
	}()
	var acks []fanout.Ack
	for len(messages) > 0 {
		bodies := (*pooled)[:0]
		for len(messages) > 0 && len(bodies) < publishStep {
			var message []byte
			if message, messages = next(messages); len(message) > 0 {
				bodies = append(bodies, message)
			}
		}
		*pooled = bodies
		if len(bodies) == 0 {
			break
		}
		ack, err := topic.PublishWait(bodies)
		if err != nil {
			return err
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		if err := ack.Wait(); err != nil {
			return err
		}
	}
	return nil
}
