package fanout

import (
	"github.com/nsqloop/nsqloop/mmapq"
)

// restore rebuilds topics and channels from what the store recovered. Runs before any loop exists.
func (b *Broker) restore() error {
	for _, rt := range b.st.Topics() {
		channels := rt.Meta.Channels
		for s, l := range rt.Logs {
			// Also when open: when all segments are freed and no channel of the disk remembers, this is what is known of the positions that were used. To
			// use one again that Empty dropped would be to lose a message.
			l.Seen(rt.Meta.HeldAt[s])
		}
		t := newTopic(b, rt.Meta, rt.Logs, false)
		b.topics[t.name] = t
		var restored []*Channel
		for _, meta := range channels {
			slot, states, floor, cursor, err := b.st.RecoverChannel(*meta, rt.Logs)
			if err != nil {
				return err
			}
			ch := newChannel(t, *meta, false, slot, states, floor, cursor)
			t.insert(ch)
			restored = append(restored, ch)
		}
		if hold := t.meta.Paused || len(restored) == 0; hold != t.meta.Held {
			// Held with channels: the kill fell between a channel's record and that of the topic. Open without one: between the end of the last channel
			// and the record of what that makes of the topic, or the channels were ephemeral; nothing that was visible then has a reader now. Unless
			// the manifest was damaged: then its channel's record may be what is missing, and what the topic held was perhaps never read. It is held
			// from where it was; some of it may come twice.
			if hold && len(restored) == 0 && b.st.Recovered().LostBytes > 0 {
				t.meta.Held = true
			}
			if err := t.setMode(t.meta.Paused, len(restored), t.saveIfRoom); err != nil {
				return err
			}
		}
		for _, ch := range restored {
			ch.restoreUnfinished()
		}
		b.recl.kick(t) // what was finished before may not be freed yet
	}
	b.st.FinishRecovery()
	return nil
}

// saveIfRoom is save at a start, which a full disk does not stop: the next start comes to the same conclusion.
func (t *Topic) saveIfRoom(meta mmapq.TopicMeta) error {
	err := t.save(meta)
	if mmapq.IsFull(err) {
		t.b.opts.Warn("TOPIC(%s): %v", t.name, err)
		return nil
	}
	return err
}

// restoreUnfinished puts every claimed and unfinished message back: those of the main log were delivered before (attempts go on counting),
// those of the deferred stream wait for their due time unless they were delivered already.
func (ch *Channel) restoreUnfinished() {
	b := ch.t.b
	delays := delaysFound{list: b.st.Delays(ch.meta.ID), now: b.toDisk(Now())}
	again := func(s mmapq.Stream, p mmapq.Pos) {
		k := makeKey(s, p)
		if due, ok := delays.of(s, p, ch.states[s].Get(p)); ok {
			ch.deferred.push(dueEntry{b.fromDisk(due), k})
		} else {
			ch.side.push(k, 0)
		}
	}
	ch.eachUnfinished(streamMain, func(p, end mmapq.Pos) mmapq.Pos {
		if mutantEvery("forget-inflight", 20) {
			ch.finish(streamMain, p, p+1)
			return p + 1
		}
		again(streamMain, p)
		return p + 1
	})
	l := ch.t.logs[streamDeferred]
	ch.eachUnfinished(streamDeferred, func(p, end mmapq.Pos) mmapq.Pos {
		return l.EachDue(p, end, 1024, func(p mmapq.Pos, due int64) {
			switch ch.states[streamDeferred].Get(p) {
			case mmapq.Finished:
			case 0:
				if mmapq.Mutant("reset-due") {
					due = 0
				}
				ch.deferred.push(dueEntry{ch.t.b.fromMillis(due), makeKey(streamDeferred, p) | keyFresh})
			default:
				again(streamDeferred, p)
			}
		})
	})
	ch.mu.Lock()
	ch.schedule()
	ch.mu.Unlock()
	ch.pullDeferred()
}

// eachUnfinished calls f with the unfinished messages between floor and cursor: p is one, up to end there is no gap. f returns where to go on.
func (ch *Channel) eachUnfinished(s mmapq.Stream, f func(p, end mmapq.Pos) mmapq.Pos) {
	l := ch.t.logs[s]
	for p := ch.floor[s]; p < ch.cursor[s]; {
		at, end := l.Next(p, ch.cursor[s])
		for at < end {
			if at = ch.states[s].Unfinished(at, end); at < end {
				at = f(at, end)
			}
		}
		p = max(end, p+1)
	}
}
