package httpapi

import (
	"errors"
	"strconv"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
	"github.com/valyala/fasthttp"
)

// pubBefore refuses a body by its declared length.
func pubBefore(s *Server, r *request) (reply, bool) {
	if int64(r.ctx.Request.Header.ContentLength()) > s.o.MaxMsgSize {
		dropUnread(r.ctx, r.ctx.Request.Header.ContentLength())
		return fail(fasthttp.StatusRequestEntityTooLarge, "MSG_TOO_BIG"), true
	}
	return reply{}, false
}

// pub publishes the body as one message. The body is checked before the parameters, and the topic exists before "defer" is looked at.
func pub(s *Server, r *request) reply {
	if refusal, refused := pubBefore(s, r); refused {
		return refusal
	}
	b := s.openBody(r.ctx, s.o.MaxMsgSize)
	defer b.release()
	message, err := b.all()
	switch {
	case errors.Is(err, errBodyTooLong):
		return fail(fasthttp.StatusRequestEntityTooLarge, "MSG_TOO_BIG")
	case err != nil:
		return fail(fasthttp.StatusInternalServerError, "INTERNAL_ERROR")
	case len(message) == 0:
		return fail(fasthttp.StatusBadRequest, "MSG_EMPTY")
	}
	topic, refusal := s.publishTopic(r)
	if topic == nil {
		return refusal
	}
	delay, ok := s.deferral(r.args)
	if !ok {
		return fail(fasthttp.StatusBadRequest, "INVALID_DEFER")
	}
	var ack fanout.Ack
	if delay > 0 {
		ack, err = topic.PublishDeferredWait(message, delay)
	} else {
		ack, err = topic.PublishWait([][]byte{message})
	}
	if err == nil {
		err = ack.Wait()
	}
	if err != nil {
		return s.publishFailed(topic, err)
	}
	return okReply
}

// publishFailed is the one answer to everything that can go wrong after the checks.
func (s *Server) publishFailed(topic *fanout.Topic, err error) reply {
	if !errors.Is(err, fanout.ErrExiting) {
		s.o.Log.Errorf("TOPIC(%s): publish over HTTP failed - %s", topic.Name(), err)
	}
	return fail(fasthttp.StatusServiceUnavailable, "EXITING")
}

// publishTopic checks the query and returns the topic it names, creating it. nil: refusal is the answer.
func (s *Server) publishTopic(r *request) (topic *fanout.Topic, refusal reply) {
	refusal, ok := s.params(r)
	if !ok {
		return nil, refusal
	}
	name, ok := r.args.get("topic")
	if !ok {
		return nil, fail(fasthttp.StatusBadRequest, "MISSING_ARG_TOPIC")
	}
	if !codec.ValidTopic(name) {
		return nil, fail(fasthttp.StatusBadRequest, "INVALID_TOPIC")
	}
	topic, err := s.o.Broker.Topic(name)
	if err != nil {
		return nil, s.createFailed(err)
	}
	return topic, reply{}
}

// createFailed answers that a topic or channel could not be made.
func (s *Server) createFailed(err error) reply {
	switch {
	case errors.Is(err, fanout.ErrTooManyTopics):
		return fail(fasthttp.StatusServiceUnavailable, "TOO_MANY_TOPICS")
	case errors.Is(err, fanout.ErrTooManyChannels):
		return fail(fasthttp.StatusServiceUnavailable, "TOO_MANY_CHANNELS")
	case !errors.Is(err, fanout.ErrExiting):
		s.o.Log.Errorf("creating a topic or channel over HTTP failed - %s", err)
	}
	return fail(fasthttp.StatusServiceUnavailable, "EXITING")
}

// deferral reads the "defer" parameter, whole milliseconds up to the longest requeue time-out. Absent is 0.
func (s *Server) deferral(args query) (time.Duration, bool) {
	text, ok := args.get("defer")
	if !ok {
		return 0, true
	}
	ms, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || ms < 0 || ms > int64(s.o.MaxReqTimeout/time.Millisecond) {
		return 0, false
	}
	return time.Duration(ms) * time.Millisecond, true
}
