package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

// churnTopic is the model of a topic that nobody consumes: what /stats must say of it.
type churnTopic struct {
	exists, paused bool
	depth          int64 // at the topic: published while it was paused or had no channel
	channels       map[string]churnChannel
}

type churnChannel struct {
	paused bool
	depth  int64
}

// churnOp is one request to the HTTP interface: POST path with its topic, and a channel or n messages where it has one.
type churnOp struct {
	path    string
	channel string
	n       int
}

// churnOps are the requests with a channel, and without one. Publishing is done more often than the rest together.
var churnOps = []struct {
	path    string
	channel bool
}{
	{"/pub", false}, {"/pub", false}, {"/pub", false}, {"/mpub", false}, {"/mpub", false}, {"/mpub", false},
	{"/topic/create", false}, {"/topic/delete", false}, {"/topic/empty", false}, {"/topic/pause", false}, {"/topic/unpause", false},
	{"/channel/create", true}, {"/channel/create", true}, {"/channel/delete", true}, {"/channel/empty", true}, {"/channel/empty", true},
	{"/channel/pause", true}, {"/channel/unpause", true},
}

// possible tells whether the daemon must answer op with 200.
func (t churnTopic) possible(op churnOp) bool {
	switch op.path {
	case "/pub", "/mpub", "/topic/create":
		return true
	case "/channel/create":
		return t.exists
	}
	_, known := t.channels[op.channel]
	return t.exists && (op.channel == "" || known)
}

// apply returns the topic as it is after op.
func (t churnTopic) apply(op churnOp) churnTopic {
	t.channels = maps.Clone(t.channels)
	if t.channels == nil {
		t.channels = map[string]churnChannel{}
	}
	t.exists = true
	switch op.path {
	case "/topic/delete":
		return churnTopic{}
	case "/topic/empty":
		t.depth = 0
	case "/topic/pause":
		t.paused = true
	case "/topic/unpause":
		t.paused = false
	case "/channel/create":
		t.channels[op.channel] = t.channels[op.channel]
	case "/channel/delete":
		delete(t.channels, op.channel)
	case "/channel/empty":
		t.channels[op.channel] = churnChannel{paused: t.channels[op.channel].paused}
	case "/channel/pause", "/channel/unpause":
		t.channels[op.channel] = churnChannel{paused: op.path == "/channel/pause", depth: t.channels[op.channel].depth}
	case "/pub", "/mpub":
		t.depth += int64(op.n)
	}
	if !t.paused && len(t.channels) > 0 {
		for name, c := range t.channels {
			c.depth += t.depth
			t.channels[name] = c
		}
		t.depth = 0
	}
	return t
}

// outcomes are the topics that a kill during op may leave: the old and the new one, and the start of a batch.
func (t churnTopic) outcomes(op churnOp) []churnTopic {
	list := []churnTopic{t}
	for n := range op.n + 1 { // none of them: publishing makes the topic first
		part := op
		part.n = n
		list = append(list, t.apply(part))
	}
	return list
}

// found is the topic that /stats shows.
func found(topics []daemon.TopicStats, name string) churnTopic {
	i := slices.IndexFunc(topics, func(s daemon.TopicStats) bool { return s.Name == name })
	if i < 0 {
		return churnTopic{}
	}
	s := topics[i]
	t := churnTopic{exists: true, paused: s.Paused, depth: s.Depth, channels: map[string]churnChannel{}}
	for _, c := range s.Channels {
		t.channels[c.Name] = churnChannel{paused: c.Paused, depth: c.Open()}
	}
	return t
}

func (t churnTopic) equal(u churnTopic) bool {
	return t.exists == u.exists && t.paused == u.paused && t.depth == u.depth && maps.Equal(t.channels, u.channels)
}

func (t churnTopic) String() string {
	if !t.exists {
		return "none"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "depth %d%s", t.depth, map[bool]string{true: " paused"}[t.paused])
	for _, name := range slices.Sorted(maps.Keys(t.channels)) {
		fmt.Fprintf(&text, " %s:%d%s", name, t.channels[name].depth, map[bool]string{true: " paused"}[t.channels[name].paused])
	}
	return text.String()
}
