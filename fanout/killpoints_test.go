package fanout

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// killSteps change what exists, what is paused and what is held, in every order that asks for more than one record.
func killSteps(r *rig) []func() error {
	pub := func(topic string, bodies ...string) func() error {
		return func() error {
			tp, err := r.Topic([]byte(topic))
			if err != nil {
				return err
			}
			for _, b := range bodies {
				if _, err := tp.PublishWait([][]byte{[]byte(b)}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	channel := func(topic, name string) func() error {
		return func() error {
			tp, err := r.Topic([]byte(topic))
			if err == nil {
				_, err = tp.Channel([]byte(name))
			}
			return err
		}
	}
	on := func(topic string, f func(*Topic) error) func() error {
		return func() error { return f(r.LookupTopic(topic)) }
	}
	pause := func(t *Topic) error { return t.SetPaused(true) }
	unpause := func(t *Topic) error { return t.SetPaused(false) }
	drop := func(name string) func(*Topic) error {
		return func(t *Topic) error {
			_, err := t.DeleteChannel(name)
			return err
		}
	}
	return []func() error{
		pub("t", "a", "b"),
		channel("t", "x"), // gets both
		pub("t", "c"),
		channel("t", "y#ephemeral"),
		on("t", pause),
		pub("t", "d"),
		channel("t", "z"), // gets d when the pause ends
		on("t", func(t *Topic) error { return t.LookupChannel("x").SetPaused(true) }),
		on("t", unpause),
		on("t", func(t *Topic) error { return t.LookupChannel("x").SetPaused(false) }),
		on("t", drop("x")),
		on("t", drop("z")), // only the ephemeral one is left
		pub("t", "e"),
		on("t", drop("y#ephemeral")), // held again, behind e
		pub("t", "f", "g"),
		on("t", (*Topic).Empty),
		pub("t", "h"),
		channel("t", "x"), // gets h
		on("t", func(t *Topic) error { return t.LookupChannel("x").Empty() }),
		pub("t", "i"),
		func() error { _, err := r.DeleteTopic("t"); return err },
		pub("t", "j"),
		channel("t", "x"),
	}
}

// shape tells what a restart finds: topics, channels, pauses and depths.
func (r *rig) shape() string {
	var b strings.Builder
	for _, tp := range r.Topics() {
		s := tp.Stats()
		fmt.Fprintf(&b, "%s %t %d:", s.Name, s.Paused, s.Depth)
		for _, c := range s.Channels {
			fmt.Fprintf(&b, " %s %t %d", c.Name, c.Paused, c.Depth)
		}
		b.WriteString("; ")
	}
	return b.String()
}

// A kill at every write to the manifest: the next start finds what was before the command that it interrupted, or what is after it.
func TestKillAtEveryRecord(t *testing.T) {
	// shapes[i] is what a start finds behind the first i steps.
	shapes := []string{""}
	for i := range killSteps(nil) {
		r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
		for _, step := range killSteps(r)[:i+1] {
			require.NoError(t, step())
		}
		r = r.crash(t, mmapq.Options{}, Options{})
		shapes = append(shapes, r.shape())
		require.NoError(t, r.Close())
	}
	for writes := int64(1); ; writes++ {
		disk := newFullDisk()
		r := openRig(t, disk, mmapq.Options{}, Options{})
		disk.left.Store(writes)
		at := 0
		for _, step := range killSteps(r) {
			if err := step(); err != nil {
				require.True(t, errors.Is(err, errFull), "step %d: %v", at, err)
				break
			}
			at++
		}
		r.Abandon()
		disk.left.Store(-1)
		r = openRig(t, disk, mmapq.Options{}, Options{})
		got := r.shape()
		allowed := []string{shapes[at]}
		if at+1 < len(shapes) {
			allowed = append(allowed, shapes[at+1])
		}
		if shapes[at] == "" {
			allowed = append(allowed, "t false 0:; ") // created, nothing published yet
		}
		require.Contains(t, allowed, got, "killed at write %d, in step %d", writes, at)
		// And it works: who comes now gets what is published now.
		c := r.sub(t, "t", "last", 100, ConsumerOptions{})
		require.NoError(t, c.Channel().Topic().SetPaused(false))
		r.pub(t, "t", "now")
		all := bodies(c.takeAll(t))
		require.NotEmpty(t, all)
		require.Equal(t, "now", all[len(all)-1])
		require.NoError(t, r.Close())
		if at == len(shapes)-1 {
			require.Greater(t, writes, int64(len(shapes)/2))
			return
		}
	}
}
