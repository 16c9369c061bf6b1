package mmapq

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Due times on the disk are on the directory's own clock: as long as the machine is not booted anew it goes on with the time since the boot, so
// that a wall clock that was stepped between two starts makes no message early or late. The first start after a boot sets it by the wall clock.
// The manifest remembers it (recClock): id of the boot, and the clock's lead over the time since then.

// BootClock is one moment on three clocks.
type BootClock struct {
	Boot string        // id of this boot of the machine; empty: not known
	Up   time.Duration // since the boot, sleep included
	Wall int64         // ns since 1970
}

// The moment that the process began. Everything later is this plus the monotonic time since.
var (
	startedAt = time.Now()
	atStart   = readBootClock()
)

func readBootClock() BootClock {
	c := BootClock{Wall: startedAt.UnixNano()}
	var ts unix.Timespec
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err == nil && unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) == nil {
		c.Boot, c.Up = strings.TrimSpace(string(id)), time.Duration(ts.Nano())
	}
	return c
}

// setClock finds out how far the directory's clock leads the wall clock. The manifest is about to be written anew.
func (st *Store) setClock() {
	c := atStart
	if st.opts.Clock != nil {
		c = *st.opts.Clock
	}
	m := st.man.model
	if c.Boot != "" && m.boot == c.Boot {
		st.clockLead = m.bootLead + int64(c.Up) - c.Wall
		if d := time.Duration(st.clockLead).Abs(); d > time.Second {
			st.warn("the wall clock was stepped by about %v between two starts; due times of messages go by the time since the boot", d.Round(time.Millisecond))
		}
		return
	}
	if c.Boot != "" {
		m.apply(clockRecord(c.Boot, c.Wall-int64(c.Up)))
	}
}

func clockRecord(boot string, lead int64) record {
	return record{kind: recClock, a: uint64(lead), name: boot}
}

// ClockLead is how far the clock of due times on the disk leads a clock that showed the wall time when the process began and is steady since, in
// ns: 0 unless the wall clock was stepped since an earlier start.
func (st *Store) ClockLead() int64 { return st.clockLead }

// now is the clock of due times on the disk.
func (st *Store) now() int64 { return atStart.Wall + int64(time.Since(startedAt)) + st.clockLead }
