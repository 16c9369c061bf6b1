package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqloop/nsqloop/codec"
)

// filesWanted is what ten thousand clients need on both sides, in the rig while its own socket is the target.
const filesWanted = 1 << 16

// allowFiles raises the limit of open files, the broker's too, as far as it goes.
func allowFiles() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if limit.Cur >= filesWanted {
		return nil
	}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: filesWanted, Max: max(limit.Max, filesWanted)}) == nil {
		return nil
	}
	limit.Cur = limit.Max // only root may have more
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	return nil
}

// announce sends the head of something that is allowed, and nothing of it. Memory belongs to what has come.
func announce(v victim) {
	head := bytes.Clone(magic)
	switch v.id % 3 {
	case 0:
		head = binary.BigEndian.AppendUint32(append(head, "PUB target\n"...), 1<<20)
	case 1:
		head = binary.BigEndian.AppendUint32(append(head, "MPUB target\n"...), 5<<20)
	case 2: // four megabytes in four messages, the first of them begun
		head = binary.BigEndian.AppendUint32(append(head, "MPUB target\n"...), 4<<20)
		head = binary.BigEndian.AppendUint32(head, 4)
		head = binary.BigEndian.AppendUint32(head, 1<<20-16)
	}
	if v.send(head) {
		v.untilClosed()
	}
}

// How long slow starters may last: the default of --magic-timeout, and twice the heartbeat interval they ask for. Each is given the same
// time again, for the wheel, and for a machine that opens ten thousand connections meanwhile.
const (
	magicTime   = 5 * time.Second
	slowBeat    = time.Second
	closingTime = 3 * time.Second
)

// slowStart says nothing, or one half of something. Nobody may stay for that.
func slowStart(v victim) {
	limit := magicTime
	var every time.Duration // between two bytes of those who do go on
	switch kind := v.id % 20; {
	case kind < 6:
	case kind < 10:
		v.send(magic[:1+v.rand.IntN(3)])
	default:
		limit = 2 * slowBeat
		out := codec.AppendIdentify(bytes.Clone(magic), fmt.Appendf(nil, `{"heartbeat_interval":%d}`, slowBeat.Milliseconds()))
		half := publish[len(magic):]
		v.send(append(out, half[:1+v.rand.IntN(len(half)-60)]...))
		if kind == 19 {
			every = 200 * time.Millisecond
		}
	}
	v.closedWithin(limit, every)
}

// closedWithin judges whether the other side closes in time. While it waits it sends a byte at a time, if every is not 0.
func (v victim) closedWithin(limit, every time.Duration) {
	begin := time.Now()
	if v.SetReadDeadline(begin.Add(limit+closingTime)) != nil {
		return // closed: the attack has ended
	}
	if every > 0 {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for v.send([]byte("x")) {
				select {
				case <-tick.C:
				case <-stop:
					return
				}
			}
		}()
	}
	_, err := io.Copy(io.Discard, v.Conn)
	switch {
	case v.ctx.Err() != nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		v.f.found(fmt.Errorf("a connection that must be closed after %s is open after %s", limit, time.Since(begin)))
	default:
		v.f.found(nil)
	}
}
