package main

import (
	"slices"
	"time"
)

// sample is one delivery that was waited for.
type sample struct {
	early bool // it came before it may have
	late  time.Duration
}

type summary struct {
	n, early               int
	p50, p99, p999, latest time.Duration
}

func summarize(samples []sample) summary {
	s := summary{n: len(samples)}
	if s.n == 0 {
		return s
	}
	late := make([]time.Duration, s.n)
	for i, x := range samples {
		late[i] = x.late
		if x.early {
			s.early++
		}
	}
	slices.Sort(late)
	at := func(perMille int) time.Duration { return late[min(s.n-1, (s.n*perMille+999)/1000-1)] }
	s.p50, s.p99, s.p999, s.latest = at(500), at(990), at(999), late[s.n-1]
	return s
}
