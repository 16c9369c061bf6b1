package mmapq

import (
	"cmp"
	"slices"
)

// TopicMeta is what the manifest knows of a topic.
type TopicMeta struct {
	ID       uint64
	Name     string
	Base     [2]Pos // of each stream: the first position, later the end of the last freed segment
	Paused   bool
	Held     bool   // nothing beyond HeldAt is visible to channels
	HeldAt   [2]Pos // per stream; counts only while Held
	Channels []*ChannelMeta
	dead     [2][]posRange
}

// ChannelMeta is what the manifest knows of a channel.
type ChannelMeta struct {
	ID     uint64
	Name   string
	Slot   uint32 // in the channel table
	Start  [2]Pos
	Paused bool
	topic  uint64
}

type segmentMeta struct {
	slot   uint32
	topic  uint64
	stream Stream
	seq    uint64
	salt   uint64
	size   uint64

	compacted bool
}

// model is the state that the manifest's records add up to.
type model struct {
	topics   map[uint64]*TopicMeta
	names    map[string]*TopicMeta
	channels map[uint64]*ChannelMeta
	segments map[uint32]segmentMeta
	floor    Pos    // no new topic starts below
	lastID   uint64 // largest topic or channel id ever used
	unknown  int    // records of a kind that this version does not know
	boot     string // see setClock
	bootLead int64
}

func newModel() *model {
	return &model{
		topics: map[uint64]*TopicMeta{}, names: map[string]*TopicMeta{}, channels: map[uint64]*ChannelMeta{}, segments: map[uint32]segmentMeta{},
	}
}

const (
	flagPaused = 1 << 0
	flagHeld   = 1 << 1

	flagCompacted = 1 << 0 // of a segment
)

// apply adds one record. Records about things that do not exist are ignored: they stand behind the deletion that removed it. A topic or channel
// takes the place of an older one of its name or id: that one was deleted, but it could not be recorded or the record is lost.
func (m *model) apply(r record) {
	m.lastID = max(m.lastID, r.id)
	switch r.kind {
	case recTopic:
		m.forgetTopic(m.names[r.name])
		m.forgetTopic(m.topics[r.id])
		base := [2]Pos{Pos(r.a), Pos(r.b)}
		t := &TopicMeta{ID: r.id, Name: r.name, Base: base, Held: true, HeldAt: base} // no channel yet
		m.topics[t.ID], m.names[t.Name] = t, t
	case recTopicGone:
		m.forgetTopic(m.topics[r.id])
	case recTopicState:
		if t := m.topics[r.id]; t != nil {
			t.Paused, t.Held, t.HeldAt = r.flags&flagPaused != 0, r.flags&flagHeld != 0, [2]Pos{Pos(r.a), Pos(r.b)}
		}
	case recChannel:
		m.forgetChannel(m.channels[r.id])
		if t := m.topics[r.topic]; t != nil {
			for _, c := range t.Channels {
				if c.Name == r.name {
					m.forgetChannel(c)
					break
				}
			}
			c := &ChannelMeta{ID: r.id, Name: r.name, Slot: r.slot, Start: [2]Pos{Pos(r.a), Pos(r.b)}, topic: r.topic}
			m.channels[r.id] = c
			t.Channels = append(t.Channels, c)
		}
	case recChannelGone:
		m.forgetChannel(m.channels[r.id])
	case recChannelPaused:
		if c := m.channels[r.id]; c != nil {
			c.Paused = r.flags&flagPaused != 0
		}
	case recSegment:
		m.segments[r.slot] = segmentMeta{slot: r.slot, topic: r.topic, stream: r.stream & 1, seq: r.a, salt: r.b, size: r.size, compacted: r.flags&flagCompacted != 0}
	case recSegmentFree:
		// The topic's positions go on behind it, also when nothing else is left that remembers how far they went.
		if t := m.topics[m.segments[r.slot].topic]; t != nil {
			stream := m.segments[r.slot].stream
			t.Base[stream] = max(t.Base[stream], Pos(r.a))
		}
		delete(m.segments, r.slot)
	case recDead:
		if t := m.topics[r.id]; t != nil {
			t.dead[r.stream&1] = appendRange(t.dead[r.stream&1], posRange{Pos(r.a), Pos(r.b)})
		}
	case recFloor:
		m.floor = max(m.floor, Pos(r.a))
	case recClock:
		m.boot, m.bootLead = r.name, int64(r.a)
	default:
		m.unknown++
	}
}

// appendRange adds d to list, where it may go on with the last range. The list is not changed: readers may hold it.
func appendRange(list []posRange, d posRange) []posRange {
	if n := len(list); n > 0 && list[n-1].to == d.from {
		d.from = list[n-1].from
		list = list[:n-1]
	}
	return append(slices.Clone(list), d)
}

func (m *model) forgetTopic(t *TopicMeta) {
	if t == nil {
		return
	}
	for _, c := range t.Channels {
		delete(m.channels, c.ID)
	}
	delete(m.topics, t.ID)
	delete(m.names, t.Name)
}

func (m *model) forgetChannel(c *ChannelMeta) {
	if c == nil {
		return
	}
	delete(m.channels, c.ID)
	if t := m.topics[c.topic]; t != nil {
		t.Channels = slices.DeleteFunc(t.Channels, func(x *ChannelMeta) bool { return x == c })
	}
}

func (t *TopicMeta) stateRecord() record {
	r := record{kind: recTopicState, id: t.ID, a: uint64(t.HeldAt[0]), b: uint64(t.HeldAt[1])}
	if t.Paused {
		r.flags |= flagPaused
	}
	if t.Held {
		r.flags |= flagHeld
	}
	return r
}

func (c *ChannelMeta) record() record {
	return record{kind: recChannel, id: c.ID, topic: c.topic, slot: c.Slot, a: uint64(c.Start[0]), b: uint64(c.Start[1]), name: c.Name}
}

func (s segmentMeta) record() record {
	r := record{kind: recSegment, slot: s.slot, topic: s.topic, stream: s.stream, a: s.seq, b: s.salt, size: s.size}
	if s.compacted {
		r.flags |= flagCompacted
	}
	return r
}

// records is the shortest list that adds up to m, in a fixed order.
func (m *model) records() []record {
	recs := []record{{kind: recFloor, id: m.lastID, a: uint64(m.floor)}}
	topics := make([]*TopicMeta, 0, len(m.topics))
	for _, t := range m.topics {
		topics = append(topics, t)
	}
	slices.SortFunc(topics, func(a, b *TopicMeta) int { return cmp.Compare(a.ID, b.ID) })
	for _, t := range topics {
		recs = append(recs, record{kind: recTopic, id: t.ID, a: uint64(t.Base[0]), b: uint64(t.Base[1]), name: t.Name}, t.stateRecord())
		for _, c := range t.Channels {
			recs = append(recs, c.record())
			if c.Paused {
				recs = append(recs, record{kind: recChannelPaused, id: c.ID, flags: flagPaused})
			}
		}
		for s, ranges := range t.dead {
			for _, d := range ranges {
				recs = append(recs, record{kind: recDead, id: t.ID, stream: Stream(s), a: uint64(d.from), b: uint64(d.to)})
			}
		}
	}
	segs := make([]segmentMeta, 0, len(m.segments))
	for _, s := range m.segments {
		segs = append(segs, s)
	}
	slices.SortFunc(segs, func(a, b segmentMeta) int { return cmp.Compare(a.slot, b.slot) })
	for _, s := range segs {
		recs = append(recs, s.record())
	}
	if m.boot != "" {
		recs = append(recs, clockRecord(m.boot, m.bootLead))
	}
	return recs
}
