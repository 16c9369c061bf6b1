package mmapq

import (
	"math"
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
	Boot   string        // id of this boot of the machine; empty: not known
	Up     time.Duration // since the boot, sleep included, read before Wall
	Wall   int64         // the time of StartedAt plus the monotonic time since, ns since 1970
	Spread time.Duration // between Up and the same clock read after Wall
}

// The moment that the process began. Every later one is this plus the monotonic time since, here and above.
var (
	startedAt = time.Now()
	atStart   = readBootClock()
)

// readBootClock takes the narrowest of a few readings: a process that is scheduled away between two clocks must not make messages early.
func readBootClock() BootClock {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return BootClock{Wall: startedAt.UnixNano()}
	}
	best := BootClock{Boot: strings.TrimSpace(string(id)), Spread: math.MaxInt64}
	for range 20 {
		var before, after unix.Timespec
		if unix.ClockGettime(unix.CLOCK_BOOTTIME, &before) != nil {
			return BootClock{Wall: startedAt.UnixNano()}
		}
		since := time.Since(startedAt)
		if unix.ClockGettime(unix.CLOCK_BOOTTIME, &after) != nil {
			return BootClock{Wall: startedAt.UnixNano()}
		}
		if spread := time.Duration(after.Nano() - before.Nano()); spread < best.Spread {
			best.Up, best.Wall, best.Spread = time.Duration(before.Nano()), startedAt.UnixNano()+int64(since), spread
		}
	}
	return best
}

// clockNoise is more than two readings of two clocks differ by, and less than anybody steps a clock by.
const clockNoise = 100 * time.Microsecond

// setClock finds out how far the directory's clock leads the wall clock. The manifest is about to be written anew.
func (st *Store) setClock() {
	c := atStart
	if st.opts.Clock != nil {
		c = *st.opts.Clock
	}
	m := st.man.model
	if c.Boot != "" && m.boot == c.Boot {
		st.clockLead = m.bootLead + int64(c.Up) - c.Wall
		d := time.Duration(st.clockLead).Abs()
		if d < clockNoise {
			st.clockLead = 0 // nobody stepped it
		}
		if d > time.Second {
			st.warn("the wall clock was stepped by about %v between two starts; due times of messages go by the time since the boot", d.Round(time.Millisecond))
		}
		return
	}
	if c.Boot != "" {
		m.apply(clockRecord(c.Boot, c.Wall-int64(c.Up+c.Spread))) // and above with Up alone: never early
	}
}

func clockRecord(boot string, lead int64) record {
	return record{kind: recClock, a: uint64(lead), name: boot}
}

// ClockLead is how far the clock of due times on the disk leads a clock that showed the wall time when the process began and is steady since, in
// ns: 0 unless the wall clock was stepped since an earlier start.
func (st *Store) ClockLead() int64 { return st.clockLead }

// now is the clock of due times on the disk.
func (st *Store) now() int64 {
	return startedAt.UnixNano() + int64(time.Since(startedAt)) + st.clockLead
}

// StartedAt is the moment that ClockLead counts from.
func StartedAt() time.Time { return startedAt }
