package ledger

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Class is what a message or an event was found to be; the package comment defines each.
type Class uint8

const (
	ClassOK Class = iota
	ClassLostPrefix
	ClassLostMiddle
	ClassLostSuffix
	ClassUnknown
	ClassDuplicate
	ClassDuplicateWithoutCause
	ClassFinishedAgain
	ClassPhantom
	ClassWrongBody
	ClassEarly
	ClassDelayForgotten
	ClassAttemptsDown
	classCount
)

var classNames = [classCount]string{
	"ok", "lost-prefix", "lost-middle", "lost-suffix", "unknown", "duplicate", "duplicate-without-cause", "finished-again", "phantom",
	"wrong-body", "early", "delay-forgotten", "attempts-down",
}

func (c Class) String() string { return classNames[c] }

// ParseClass is the class of that name.
func ParseClass(name string) (Class, error) {
	i := slices.Index(classNames[:], name)
	if i < 0 {
		return 0, fmt.Errorf("there is no class %q, only %s", name, strings.Join(classNames[:], ", "))
	}
	return Class(i), nil
}

// Fault tells whether one of this class breaks a promise.
func (c Class) Fault() bool {
	switch c {
	case ClassOK, ClassUnknown, ClassDuplicate:
		return false
	}
	return true
}

// Cause is why a message was delivered again.
type Cause uint8

const (
	CauseTimeout Cause = iota
	CauseDisconnect
	CauseRequeue
	CauseRestart
	causeCount
)

var causeNames = [causeCount]string{"timeout", "disconnect", "requeue", "restart"}

func (c Cause) String() string { return causeNames[c] }

// Offender is one message or event of a faulty class.
type Offender struct {
	Channel  string
	Class    Class
	Key      Key
	Sent     time.Duration // since the start of the run
	Acked    time.Duration // 0 = never
	At       time.Duration // of the event; for a lost message of its last delivery, 0 = never delivered
	Attempts uint16        // of that delivery
	Was      string        // the delivery before it and what had become of it; empty if there was none
	Body     string        // wrong bodies and phantoms: how they begin
}

func (o Offender) String() string {
	text := fmt.Sprintf("%s channel=%s producer=%d counter=%d sent=%v acked=%v at=%v attempts=%d",
		o.Class, o.Channel, o.Key.Producer, o.Key.Counter, o.Sent, o.Acked, o.At, o.Attempts)
	if o.Was != "" {
		text += " was=" + o.Was
	}
	if o.Body != "" {
		text += fmt.Sprintf(" body=%q", o.Body)
	}
	return text
}

// offendersMax bounds the list per channel; the counts go on.
const offendersMax = 10000

// note counts an event; c.mu is held. before is the slot as it was, nil if the body names none.
func (c *Channel) note(class Class, key Key, now uint32, attempts uint16, before *slot, body []byte) {
	c.events[class]++
	if len(c.offenders) == offendersMax {
		return
	}
	o := Offender{Channel: c.name, Class: class, Key: key, At: c.ledger.since(now), Attempts: attempts}
	if before != nil && before.state != stateNever {
		o.Was = fmt.Sprintf("%s@%v,attempts=%d", before.state, c.ledger.since(before.at), before.attempts)
	}
	o.Body = string(body[:min(len(body), 64)])
	if entry, known := c.ledger.lookup(key); known {
		o.Sent = c.ledger.since(entry.at)
		if entry.acked != 0 {
			o.Acked = c.ledger.since(entry.acked)
		}
	}
	c.offenders = append(c.offenders, o)
}

// Report is the verdict over a run.
type Report struct {
	Sent, Acked int64 // messages
	Channels    []ChannelReport
	Offenders   []Offender
}

// ChannelReport is the verdict over one channel. Counts of ok, lost and unknown are messages; of the other classes, events.
type ChannelReport struct {
	Name           string
	Counts         [classCount]int64
	Causes         [causeCount]int64 // of the duplicates
	LostHeld       int64             // of the lost: delivered at least once
	UnknownArrived int64             // of the unknown: delivered at least once
	LateReads      int64             // deliveries read after a later attempt of the same message
}

// Report classifies everything. Call it when the channels were drained; a message that is still on its way counts as lost.
func (l *Ledger) Report() *Report {
	r := &Report{}
	for i := range l.producers {
		p := &l.producers[i]
		p.mu.Lock()
		r.Sent += int64(p.sent.len)
		for n := uint32(0); n < p.sent.len; n++ {
			if p.sent.at(n).acked != 0 {
				r.Acked++
			}
		}
		p.mu.Unlock()
	}
	for _, channel := range l.channels {
		report, offenders := channel.report()
		r.Channels = append(r.Channels, report)
		r.Offenders = append(r.Offenders, offenders...)
	}
	return r
}

// Open is the number of acknowledged messages, over all channels, that no consumer has finished yet.
func (l *Ledger) Open() int64 {
	open := int64(0)
	for _, channel := range l.channels {
		for i := range l.producers {
			channel.walk(uint32(i), func(_ uint32, entry sent, s slot) {
				if entry.acked != 0 && s.state.open() {
					open++
				}
			})
		}
	}
	return open
}

// walk calls visit for every message of a producer, in order, with copies and with c.mu held. The producer's lock is given back before
// c.mu is taken: note takes them the other way round.
func (c *Channel) walk(producer uint32, visit func(counter uint32, entry sent, s slot)) {
	p := &c.ledger.producers[producer]
	for base := uint32(0); ; base += chunkLen {
		var entries [chunkLen]sent
		p.mu.Lock()
		n := uint32(0)
		if base < p.sent.len {
			n = uint32(copy(entries[:min(chunkLen, p.sent.len-base)], p.sent.list[base/chunkLen][:]))
		}
		p.mu.Unlock()
		if n == 0 {
			return
		}
		c.mu.Lock()
		slots := &c.slots[producer]
		for i := range n {
			s := slot{}
			if base+i < slots.len {
				s = *slots.at(base + i)
			}
			visit(base+i, entries[i], s)
		}
		c.mu.Unlock()
	}
}

func (c *Channel) report() (ChannelReport, []Offender) {
	r := ChannelReport{Name: c.name}
	var offenders []Offender
	for producer := range uint32(len(c.ledger.producers)) {
		first, last := int64(-1), int64(-1) // counters of the first and last ok message
		c.walk(producer, func(counter uint32, entry sent, s slot) {
			if entry.acked != 0 && !s.state.open() {
				if first < 0 {
					first = int64(counter)
				}
				last = int64(counter)
			}
		})
		c.walk(producer, func(counter uint32, entry sent, s slot) {
			class := classify(int64(counter), first, last, entry, s)
			r.Counts[class]++
			arrived := s.state != stateNever
			switch {
			case class == ClassUnknown && arrived:
				r.UnknownArrived++
			case class.Fault():
				if arrived {
					r.LostHeld++
				}
				if len(offenders) < offendersMax {
					offenders = append(offenders, c.lost(class, Key{producer, counter}, entry, s))
				}
			}
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for class, n := range c.events {
		r.Counts[class] += n
	}
	r.Causes, r.LateReads = c.causes, c.lateReads
	return r, append(offenders, c.offenders...)
}

// classify decides over one message; first and last are the counters of the first and the last ok message, -1 if there is none.
func classify(counter, first, last int64, entry sent, s slot) Class {
	switch {
	case entry.acked == 0:
		return ClassUnknown
	case !s.state.open():
		return ClassOK
	case counter < first:
		return ClassLostPrefix
	case counter < last:
		return ClassLostMiddle
	}
	return ClassLostSuffix
}

func (c *Channel) lost(class Class, key Key, entry sent, s slot) Offender {
	o := Offender{Channel: c.name, Class: class, Key: key, Attempts: s.attempts}
	o.Sent, o.Acked = c.ledger.since(entry.at), c.ledger.since(entry.acked)
	if s.state != stateNever {
		o.At, o.Was = c.ledger.since(s.at), s.state.String()
	}
	return o
}

// Lost is the number of acknowledged messages that were not finished.
func (r ChannelReport) Lost() int64 {
	return r.Counts[ClassLostPrefix] + r.Counts[ClassLostMiddle] + r.Counts[ClassLostSuffix]
}

// Faults is the number of broken promises, without those of the classes named.
func (r *Report) Faults(except ...Class) int64 {
	faults := int64(0)
	for _, channel := range r.Channels {
		for class, n := range channel.Counts {
			if Class(class).Fault() && !slices.Contains(except, Class(class)) {
				faults += n
			}
		}
	}
	return faults
}

// Count is the sum of one class over all channels.
func (r *Report) Count(class Class) int64 {
	sum := int64(0)
	for _, channel := range r.Channels {
		sum += channel.Counts[class]
	}
	return sum
}

// Lost is the sum of ChannelReport.Lost.
func (r *Report) Lost() int64 {
	return r.Count(ClassLostPrefix) + r.Count(ClassLostMiddle) + r.Count(ClassLostSuffix)
}

// String is one line for the run and one for each channel.
func (r *Report) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "sent %d, acknowledged %d, faults %d", r.Sent, r.Acked, r.Faults())
	for _, channel := range r.Channels {
		text.WriteString("\n  " + channel.String())
	}
	return text.String()
}

// String lists what is not 0.
func (r ChannelReport) String() string {
	var text strings.Builder
	text.WriteString(r.Name + ":")
	for class, n := range r.Counts {
		if n == 0 && Class(class) != ClassOK {
			continue
		}
		fmt.Fprintf(&text, " %s %d", Class(class), n)
		switch Class(class) {
		case ClassUnknown:
			fmt.Fprintf(&text, " (%d arrived)", r.UnknownArrived)
		case ClassDuplicate:
			text.WriteString(" (" + r.causeList() + ")")
		}
	}
	if r.LostHeld > 0 {
		fmt.Fprintf(&text, " [%d of the lost were delivered before]", r.LostHeld)
	}
	if r.LateReads > 0 {
		fmt.Fprintf(&text, " late-reads %d", r.LateReads)
	}
	return text.String()
}

func (r ChannelReport) causeList() string {
	var list []string
	for cause, n := range r.Causes {
		if n > 0 {
			list = append(list, fmt.Sprintf("%s %d", Cause(cause), n))
		}
	}
	return strings.Join(list, ", ")
}

// WriteOffenders writes one line for each.
func (r *Report) WriteOffenders(w io.Writer) error {
	lines := bufio.NewWriter(w)
	for _, o := range r.Offenders {
		if _, err := fmt.Fprintln(lines, o); err != nil {
			return err
		}
	}
	return lines.Flush()
}
