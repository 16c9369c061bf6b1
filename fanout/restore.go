package fanout

import (
	"math"
	"time"

	"github.com/nsqloop/nsqloop/mmapq"
)

// restore rebuilds topics and channels from what the store recovered. Runs before any loop exists.
func (b *Broker) restore() error {
	for _, rt := range b.st.Topics() {
		channels := rt.Meta.Channels
		if !rt.Meta.Held && len(channels) == 0 {
			// The kill fell between the end of the last channel and the record of what that makes of the topic, or the channels were ephemeral: nothing
			// that was visible then has a reader now.
			rt.Meta.Held = true
			rt.Meta.HeldAt = [2]mmapq.Pos{rt.Logs[0].Committed(), rt.Logs[1].Committed()}
		}
		if rt.Meta.Held {
			for s, l := range rt.Logs {
				l.Seen(rt.Meta.HeldAt[s])
			}
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
		if hold := t.meta.Paused || len(restored) == 0; hold != t.meta.Held || hold {
			if err := t.save(t.setHold(hold)); err != nil {
				return err
			}
			t.showHeld()
		}
		for _, ch := range restored {
			ch.restoreUnfinished()
		}
	}
	b.st.FinishRecovery()
	return nil
}

// restoreUnfinished puts every claimed and unfinished message back: those of the main log were delivered before (attempts go on counting),
// those of the deferred stream wait for their due time unless they were delivered already.
func (ch *Channel) restoreUnfinished() {
	ch.eachUnfinished(streamMain, func(p mmapq.Pos) {
		if !mutantForgetInFlight(ch, p) {
			ch.side.push(makeKey(streamMain, p), 0)
		}
	})
	l := ch.t.logs[streamDeferred]
	ch.eachUnfinished(streamDeferred, func(p mmapq.Pos) {
		if ch.states[streamDeferred].Get(p) > 0 {
			ch.side.push(makeKey(streamDeferred, p), 0)
			return
		}
		if r, _ := l.Run(p, p+1, 1, math.MaxInt); r.N > 0 {
			ch.deferred.push(dueEntry{r.Due(0) * int64(time.Millisecond), makeKey(streamDeferred, p) | keyFresh})
			r.Release()
		}
	})
	ch.mu.Lock()
	ch.schedule()
	ch.mu.Unlock()
	ch.pullDeferred()
}

func (ch *Channel) eachUnfinished(s mmapq.Stream, f func(mmapq.Pos)) {
	l := ch.t.logs[s]
	for p := ch.floor[s]; p < ch.cursor[s]; {
		at, end := l.Next(p, ch.cursor[s])
		for at < end {
			if at = ch.states[s].Unfinished(at, end); at < end {
				f(at)
				at++
			}
		}
		p = max(end, p+1)
	}
}
