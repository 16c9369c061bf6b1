package fanout

import (
	"time"

	"github.com/nsqloop/nsqloop/mmapq"
)

var (
	processStart = mmapq.StartedAt()
	wallAtStart  = processStart.UnixNano()
)

// Now is the broker's steady clock in nanoseconds: the wall clock at process start plus the monotonic time since. Deadlines and due times are
// kept on it, so a step of the wall clock neither delays nor expires anything.
func Now() int64 { return wallAtStart + int64(time.Since(processStart)) }

// toDisk and fromDisk turn moments of Now into those of the clock that due times on the disk are on (see mmapq.Store.ClockLead), and back.
func (b *Broker) toDisk(at int64) int64   { return at + b.st.ClockLead() }
func (b *Broker) fromDisk(at int64) int64 { return at - b.st.ClockLead() }
