package fanout

import "time"

var (
	processStart = time.Now()
	wallAtStart  = processStart.UnixNano()
)

// Now is the broker's steady clock in nanoseconds: the wall clock at process start plus the monotonic time since. Deadlines and due times are
// kept on it, so a step of the wall clock neither delays nor expires anything.
func Now() int64 { return wallAtStart + int64(time.Since(processStart)) }
