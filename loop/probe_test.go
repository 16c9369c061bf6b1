package loop

import (
	"strings"
	"testing"
	"time"

	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/mmapq"
)

// A loop that hangs shows in the times of its answers, by how long it hung.
func TestAnswerTimes(t *testing.T) {
	const hang = 70 * time.Millisecond
	hung, release := make(chan struct{}), make(chan struct{})
	s := serve(t, func(o *Options) {
		log := o.Log
		o.Log = func(level LogLevel, format string, args ...any) {
			if strings.HasPrefix(format, "CLIENT(%s): closed") {
				close(hung)
				<-release
			}
			log(level, format, args...)
		}
	})
	slow := func(c mmapq.DurationCounts) (all, late uint64) {
		for i, n := range c.Counts {
			all += n
			if i == mmapq.DurationBuckets || mmapq.DurationBound(i) >= int64(hang) {
				late += n
			}
		}
		return all, late
	}
	if all, _ := slow(s.AnswerTimes()); all != 0 {
		t.Fatal("asked before anybody wanted to know")
	}
	eventually(t, "answered", func() bool { all, _ := slow(s.AnswerTimes()); return all > 0 })
	_, lateBefore := slow(s.AnswerTimes())

	c := s.connect()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-hung
	l := s.loops[0]
	eventually(t, "asked while it hangs", func() bool {
		at := l.probedAt.Load()
		return at != 0 && fanout.Now()-at > int64(hang)
	})
	close(release)
	eventually(t, "the late answer is counted", func() bool { _, late := slow(s.AnswerTimes()); return late > lateBefore })
}
