package httpapi

import (
	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
	"github.com/valyala/fasthttp"
)

// channelArgs checks the two names in the fixed order and finds the topic. nil: refusal is the answer. channel aliases the request.
func (s *Server) channelArgs(r *request) (topic *fanout.Topic, channel []byte, refusal reply) {
	refusal, ok := s.adminParams(r)
	if !ok {
		return nil, nil, refusal
	}
	name, channel, refusal := channelNames(r.args)
	if refusal.status != 0 {
		return nil, nil, refusal
	}
	if topic = s.o.Broker.LookupTopic(string(name)); topic == nil {
		return nil, nil, fail(fasthttp.StatusNotFound, "TOPIC_NOT_FOUND")
	}
	return topic, channel, reply{}
}

// channelNames checks the two names in the fixed order. They alias the request.
func channelNames(args query) (topic, channel []byte, refusal reply) {
	topic, ok := args.get("topic")
	switch {
	case !ok:
		return nil, nil, fail(fasthttp.StatusBadRequest, "MISSING_ARG_TOPIC")
	case !codec.ValidTopic(topic):
		return nil, nil, fail(fasthttp.StatusBadRequest, "INVALID_ARG_TOPIC")
	}
	channel, ok = args.get("channel")
	switch {
	case !ok:
		return nil, nil, fail(fasthttp.StatusBadRequest, "MISSING_ARG_CHANNEL")
	case !codec.ValidChannel(channel):
		return nil, nil, fail(fasthttp.StatusBadRequest, "INVALID_ARG_CHANNEL")
	}
	return topic, channel, reply{}
}

// existingChannel finds the channel of the query. nil: refusal is the answer.
func (s *Server) existingChannel(r *request) (*fanout.Channel, reply) {
	topic, name, refusal := s.channelArgs(r)
	if topic == nil {
		return nil, refusal
	}
	channel := topic.LookupChannel(string(name))
	if channel == nil {
		return nil, fail(fasthttp.StatusNotFound, "CHANNEL_NOT_FOUND")
	}
	return channel, reply{}
}

func createChannel(s *Server, r *request) reply {
	topic, name, refusal := s.channelArgs(r)
	if topic == nil {
		return refusal
	}
	if _, err := topic.Channel(name); err != nil {
		return s.createFailed(err)
	}
	return reply{}
}

func deleteChannel(s *Server, r *request) reply {
	channel, refusal := s.existingChannel(r)
	if channel == nil {
		return refusal
	}
	found, err := channel.Topic().DeleteChannel(channel.Name())
	if !found {
		return fail(fasthttp.StatusNotFound, "CHANNEL_NOT_FOUND")
	}
	return s.outcome("deleting channel "+channel.Name(), err)
}

func emptyChannel(s *Server, r *request) reply {
	channel, refusal := s.existingChannel(r)
	if channel == nil {
		return refusal
	}
	return s.outcome("emptying channel "+channel.Name(), channel.Empty())
}

func pauseChannel(s *Server, r *request) reply   { return s.setChannelPaused(r, true) }
func unpauseChannel(s *Server, r *request) reply { return s.setChannelPaused(r, false) }

func (s *Server) setChannelPaused(r *request, paused bool) reply {
	channel, refusal := s.existingChannel(r)
	if channel == nil {
		return refusal
	}
	return s.outcome("pausing channel "+channel.Name(), channel.SetPaused(paused))
}
