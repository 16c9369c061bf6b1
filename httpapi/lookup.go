package httpapi

import (
	"errors"
	"net"
	"net/http/pprof"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/lookupd"
	"github.com/valyala/fasthttp"
)

// LookupOptions is what the server of nsqlookupd's API serves. All of it is fixed while it runs.
type LookupOptions struct {
	Registry       *lookupd.Registry
	Log            Logger
	Version        string
	MaxConnections int // 0 = 16384; more are turned away with 503

	Access      func(format string, args ...any)  // writes the line of one request; nil = Log.Infof
	Connections func() (open int, refused uint64) // of nsqds, for /metrics; may be nil
	MaxSeries   int                               // bounds what /metrics tells of topics

	timeouts timeouts // zero = the defaults; set by tests
}

// lookupWriteBuffer holds the answer for a topic with some eighty producers.
const lookupWriteBuffer = 16 << 10

// NewLookup makes a server of nsqlookupd's API that owns listener from now on.
func NewLookup(listener net.Listener, o LookupOptions) *Server {
	l := &lookupAPI{registry: o.Registry, connections: o.Connections}
	s := newServer(listener, Options{
		Log: o.Log, Version: o.Version, StartTime: time.Now(), MaxConnections: o.MaxConnections, timeouts: o.timeouts, writeBuffer: lookupWriteBuffer,
		Access: o.Access, MaxSeries: o.MaxSeries,
	}, l.table())
	s.expose = l.expose
	return s
}

// lookupAPI holds the handlers of nsqlookupd.
type lookupAPI struct {
	registry    *lookupd.Registry
	connections func() (open int, refused uint64)
}

func (l *lookupAPI) table() []route {
	return []route{
		{method: get, path: "/ping", handle: lookupPing, log: true},
		{method: get, path: "/info", handle: lookupInfo, log: true},
		{method: get, path: "/debug", handle: l.debug, log: true},
		{method: get, path: "/lookup", handle: l.lookup, log: true},
		{method: get, path: "/topics", handle: l.topics, log: true},
		{method: get, path: "/channels", handle: l.channels, log: true},
		{method: get, path: "/nodes", handle: l.nodes, log: true},
		{method: get, path: "/metrics", handle: showMetrics},

		{method: post, path: "/topic/create", handle: l.createTopic, log: true},
		{method: post, path: "/topic/delete", handle: l.deleteTopic, log: true},
		{method: post, path: "/topic/tombstone", handle: l.tombstone, log: true},
		{method: post, path: "/channel/create", handle: l.createChannel, log: true},
		{method: post, path: "/channel/delete", handle: l.deleteChannel, log: true},

		{method: get, path: "/debug/pprof", handle: adapt(pprof.Index)},
		{method: get, path: "/debug/pprof/cmdline", handle: pprofCmdline},
		{method: get, path: "/debug/pprof/symbol", handle: pprofSymbol},
		{method: post, path: "/debug/pprof/symbol", handle: pprofSymbol, wantsBody: true},
		{method: get, path: "/debug/pprof/profile", handle: pprofProfile},
		{method: get, path: "/debug/pprof/heap", handle: pprofNamed("heap")},
		{method: get, path: "/debug/pprof/goroutine", handle: pprofNamed("goroutine")},
		{method: get, path: "/debug/pprof/block", handle: pprofNamed("block")},
		{method: get, path: "/debug/pprof/threadcreate", handle: pprofNamed("threadcreate")},
	}
}

func lookupPing(*Server, *request) reply {
	answer := okReply
	answer.bare = true
	return answer
}

func lookupInfo(s *Server, _ *request) reply {
	return jsonReply(struct {
		Version string `json:"version"`
	}{s.o.Version})
}

func (l *lookupAPI) topics(*Server, *request) reply {
	return jsonReply(struct {
		Topics []string `json:"topics"`
	}{l.registry.Topics()})
}

func (l *lookupAPI) nodes(*Server, *request) reply {
	return jsonReply(struct {
		Producers []lookupd.Node `json:"producers"`
	}{l.registry.Nodes()})
}

func (l *lookupAPI) debug(*Server, *request) reply { return jsonReply(l.registry.Debug()) }

// topicArg returns the topic parameter as it is; false: refusal is the answer.
func (l *lookupAPI) topicArg(s *Server, r *request) (topic string, refusal reply, ok bool) {
	if refusal, ok = s.params(r); !ok {
		return "", refusal, false
	}
	name, ok := r.args.get("topic")
	if !ok {
		return "", fail(fasthttp.StatusBadRequest, "MISSING_ARG_TOPIC"), false
	}
	return string(name), reply{}, true
}

// channelArg returns both parameters, checked in the fixed order; false: refusal is the answer.
func (l *lookupAPI) channelArg(s *Server, r *request) (topic, channel string, refusal reply, ok bool) {
	if refusal, ok = s.params(r); !ok {
		return "", "", refusal, false
	}
	topicName, channelName, refusal := channelNames(r.args)
	return string(topicName), string(channelName), refusal, refusal.status == 0
}

func (l *lookupAPI) lookup(s *Server, r *request) reply {
	topic, refusal, ok := l.topicArg(s, r)
	if !ok {
		return refusal
	}
	body, ok := l.registry.Lookup(topic)
	if !ok {
		return fail(fasthttp.StatusNotFound, "TOPIC_NOT_FOUND")
	}
	return reply{json: true, body: body}
}

func (l *lookupAPI) channels(s *Server, r *request) reply {
	topic, refusal, ok := l.topicArg(s, r)
	if !ok {
		return refusal
	}
	return jsonReply(struct {
		Channels []string `json:"channels"`
	}{l.registry.Channels(topic)})
}

func (l *lookupAPI) createTopic(s *Server, r *request) reply {
	topic, refusal, ok := l.topicArg(s, r)
	switch {
	case !ok:
		return refusal
	case !codec.ValidTopic([]byte(topic)):
		return fail(fasthttp.StatusBadRequest, "INVALID_ARG_TOPIC")
	}
	s.o.Log.Infof("DB: adding topic(%s)", topic)
	return l.created(s, l.registry.CreateTopic(topic))
}

func (l *lookupAPI) createChannel(s *Server, r *request) reply {
	topic, channel, refusal, ok := l.channelArg(s, r)
	if !ok {
		return refusal
	}
	s.o.Log.Infof("DB: adding channel(%s) in topic(%s)", channel, topic)
	s.o.Log.Infof("DB: adding topic(%s)", topic)
	return l.created(s, l.registry.CreateChannel(topic, channel))
}

// created answers for something that was made, or is one too many.
func (l *lookupAPI) created(s *Server, err error) reply {
	switch {
	case errors.Is(err, lookupd.ErrTooManyTopics):
		return fail(fasthttp.StatusServiceUnavailable, "TOO_MANY_TOPICS")
	case errors.Is(err, lookupd.ErrTooManyChannels):
		return fail(fasthttp.StatusServiceUnavailable, "TOO_MANY_CHANNELS")
	}
	return s.outcome("creating", err)
}

func (l *lookupAPI) deleteTopic(s *Server, r *request) reply {
	topic, refusal, ok := l.topicArg(s, r)
	if !ok {
		return refusal
	}
	for _, gone := range l.registry.DeleteTopic(topic) {
		if gone.Channel != "" {
			s.o.Log.Infof("DB: removing channel(%s) from topic(%s)", gone.Channel, topic)
		} else {
			s.o.Log.Infof("DB: removing topic(%s)", topic)
		}
	}
	return reply{}
}

func (l *lookupAPI) deleteChannel(s *Server, r *request) reply {
	topic, channel, refusal, ok := l.channelArg(s, r)
	if !ok {
		return refusal
	}
	if !l.registry.DeleteChannel(topic, channel) {
		return fail(fasthttp.StatusNotFound, "CHANNEL_NOT_FOUND")
	}
	s.o.Log.Infof("DB: removing channel(%s) from topic(%s)", channel, topic)
	return reply{}
}

func (l *lookupAPI) tombstone(s *Server, r *request) reply {
	topic, refusal, ok := l.topicArg(s, r)
	if !ok {
		return refusal
	}
	node, ok := r.args.get("node")
	if !ok {
		return fail(fasthttp.StatusBadRequest, "MISSING_ARG_NODE")
	}
	s.o.Log.Infof("DB: setting tombstone for producer@%s of topic(%s)", node, topic)
	l.registry.Tombstone(topic, string(node))
	return reply{}
}
