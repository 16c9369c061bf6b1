package fanout

import "github.com/nsqloop/nsqloop/mmapq"

// recordDelay makes the delay of a requeue survive a restart, before it takes effect. Where that fails (no disk space) the message is delivered
// at once after a restart, which is said in the log; it is not lost.
func (ch *Channel) recordDelay(id uint64, due int64) {
	if ch.memory {
		return
	}
	s, p, _ := mmapq.SplitID(id)
	d := mmapq.Delay{Channel: ch.meta.ID, Stream: s, Pos: p, Due: due, Attempts: max(ch.states[s].Get(p), 1)}
	if err := ch.t.b.st.SaveDelay(d); err != nil {
		ch.t.b.opts.Warn("CHANNEL(%s): a delay would not survive a restart: %v", ch.name, err)
	}
}

// waitingDelays lists what every channel of the broker waits for after a delivery: the content of a new file of delays.
func (b *Broker) waitingDelays() []mmapq.Delay {
	var list []mmapq.Delay
	for _, t := range b.Topics() {
		for _, ch := range t.Channels() {
			list = ch.appendDelays(list)
		}
	}
	return list
}

func (ch *Channel) appendDelays(list []mmapq.Delay) []mmapq.Delay {
	if ch.memory {
		return list
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for _, e := range ch.deferred.list {
		if !e.key.fresh() {
			s, p := e.key.stream(), e.key.pos()
			list = append(list, mmapq.Delay{Channel: ch.meta.ID, Stream: s, Pos: p, Due: e.due, Attempts: max(ch.states[s].Get(p), 1)})
		}
	}
	return list
}
