package main

import "slices"

// subject is a daemon with flags.
type subject struct {
	name string
	path string
	args []string
	env  []string
	// consumers is what they send in IDENTIFY; nil for nothing.
	consumers map[string]any
}

// Names of the subjects; the tables and floors look for them.
const (
	oursName     = "ours"
	peerMemName  = "peer in memory"
	peerDiskName = "peer on disk"
)

// The flags that make the two peers.
var (
	peerMemArgs  = []string{"--mem-queue-size=1000000"}
	peerDiskArgs = []string{"--mem-queue-size=0"}
)

// oursWith is our daemon with more flags.
func (o options) oursWith(name string, args ...string) subject {
	return subject{name: name, path: o.ours, args: slices.Concat(o.oursArgs, args)}
}

// peerWith is the peer with more flags; its own, from -peer-args, come last and win.
func (o options) peerWith(name string, args ...string) subject {
	return subject{name: name, path: o.peer, args: slices.Concat(args, o.peerArgs)}
}

// without takes the peers out where there is none.
func (o options) without(subjects []subject) []subject {
	return slices.DeleteFunc(subjects, func(s subject) bool { return s.path == "" })
}

// allThree are ours and both peers; a quick look leaves out the slowest.
func (o options) allThree() []subject {
	if o.quick {
		return inMemoryOnly(o)
	}
	return o.without([]subject{o.oursWith(oursName), o.peerWith(peerMemName, peerMemArgs...), o.peerWith(peerDiskName, peerDiskArgs...)})
}

// inMemoryOnly is for workloads where the peer on disk would take too long or say nothing new.
func inMemoryOnly(o options) []subject {
	return o.without([]subject{o.oursWith(oursName), o.peerWith(peerMemName, peerMemArgs...)})
}

func (w workload) of(o options) []subject {
	if w.subjects == nil {
		return o.allThree()
	}
	return w.subjects(o)
}
