package httpapi

import (
	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
	"github.com/valyala/fasthttp"
)

func createTopic(s *Server, r *request) reply {
	topic, refusal := s.publishTopic(r)
	if topic != nil {
		topic.AwaitStart() // whoever created it by hand expects the channels that the cluster knows
	}
	return refusal
}

// adminParams parses the query and drops the body, as every endpoint does that acts on something that must exist.
func (s *Server) adminParams(r *request) (refusal reply, ok bool) {
	if refusal, ok = s.params(r); !ok {
		return refusal, false
	}
	if err := s.discardBody(r.ctx); err != nil {
		s.o.Log.Errorf("failed to parse request params - %s", err)
		return fail(fasthttp.StatusBadRequest, "INVALID_REQUEST"), false
	}
	return reply{}, true
}

// existingTopic finds the topic of the query. Only when validate is set is a bad name told from an unknown one. nil: refusal is the answer.
func (s *Server) existingTopic(r *request, validate bool) (topic *fanout.Topic, refusal reply) {
	refusal, ok := s.adminParams(r)
	if !ok {
		return nil, refusal
	}
	name, ok := r.args.get("topic")
	if !ok {
		return nil, fail(fasthttp.StatusBadRequest, "MISSING_ARG_TOPIC")
	}
	if validate && !codec.ValidTopic(name) {
		return nil, fail(fasthttp.StatusBadRequest, "INVALID_TOPIC")
	}
	if topic = s.o.Broker.LookupTopic(string(name)); topic == nil {
		return nil, fail(fasthttp.StatusNotFound, "TOPIC_NOT_FOUND")
	}
	return topic, reply{}
}

func deleteTopic(s *Server, r *request) reply {
	topic, refusal := s.existingTopic(r, false)
	if topic == nil {
		return refusal
	}
	found, err := s.o.Broker.DeleteTopic(topic.Name())
	if !found {
		return fail(fasthttp.StatusNotFound, "TOPIC_NOT_FOUND")
	}
	return s.outcome("deleting topic "+topic.Name(), err)
}

func emptyTopic(s *Server, r *request) reply {
	topic, refusal := s.existingTopic(r, true)
	if topic == nil {
		return refusal
	}
	return s.outcome("emptying topic "+topic.Name(), topic.Empty())
}

func pauseTopic(s *Server, r *request) reply   { return s.setTopicPaused(r, true) }
func unpauseTopic(s *Server, r *request) reply { return s.setTopicPaused(r, false) }

func (s *Server) setTopicPaused(r *request, paused bool) reply {
	topic, refusal := s.existingTopic(r, false)
	if topic == nil {
		return refusal
	}
	return s.outcome("pausing topic "+topic.Name(), topic.SetPaused(paused))
}

// outcome answers for an action that can fail inside.
func (s *Server) outcome(action string, err error) reply {
	if err != nil {
		s.o.Log.Errorf("%s failed - %s", action, err)
		return fail(fasthttp.StatusInternalServerError, "INTERNAL_ERROR")
	}
	return reply{}
}
