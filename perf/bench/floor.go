package main

import "fmt"

// floor is the least that ours must reach in a row. The zero value asks for nothing.
type floor struct {
	// ratio is how many times better than against ours must be, by the medians.
	ratio   float64
	against string // name of a subject; empty is the peer in memory
	// limit is what ours must not exceed, or not fall short of in a row where more is better.
	limit float64
	of    string // name of the subject it is about; empty is ours
	// notWorse asks that the ranges of ours and of against overlap, or ours is better: in the row's value, and in messages per second where
	// the row has them.
	notWorse bool
}

func times(ratio float64) floor { return floor{ratio: ratio} }

func (f floor) judged() string {
	if f.of == "" {
		return oursName
	}
	return f.of
}

func (f floor) subject() string {
	if f.against == "" {
		return peerMemName
	}
	return f.against
}

// text says what is asked for.
func (f floor) text(r row) string {
	if f.of != "" {
		return f.of + ": " + f.demand(r)
	}
	return f.demand(r)
}

func (f floor) demand(r row) string {
	switch {
	case f.notWorse:
		return "not worse"
	case f.limit > 0 && r.more:
		return fmt.Sprintf("at least %s", number(f.limit))
	case f.limit > 0:
		return fmt.Sprintf("at most %s", number(f.limit))
	case f.ratio > 0 && f.against != "":
		return fmt.Sprintf("%s x %s", number(f.ratio), f.against)
	case f.ratio > 0:
		return fmt.Sprintf("%s x", number(f.ratio))
	}
	return ""
}

// verdict says whether the floor holds, and how far off ours is where it does not. samples gives those of a subject in this row.
func (f floor) verdict(r row, samples func(subject string) []sample) string {
	ours, theirs := samples(f.judged()), samples(f.subject())
	if f == (floor{}) {
		return ""
	}
	if len(ours) == 0 || f.limit == 0 && len(theirs) == 0 {
		return "not measured"
	}
	mine := spreadOf(ours, value)
	if f.limit > 0 {
		return holds(r.more == (mine.median >= f.limit) || mine.median == f.limit, number(mine.median))
	}
	peer := spreadOf(theirs, value)
	if f.ratio > 0 {
		found := ratioOf(r, mine, peer)
		return holds(found >= f.ratio, number(found)+" x")
	}
	better := mine.low <= peer.high
	if r.more {
		better = mine.high >= peer.low
	}
	if mine, peer := spreadOf(ours, rate), spreadOf(theirs, rate); mine.high < peer.low {
		return holds(false, fmt.Sprintf("%.2f of its rate", mine.median/peer.median))
	}
	return holds(better, number(ratioOf(r, mine, peer))+" x")
}

func holds(yes bool, found string) string {
	if yes {
		return "holds"
	}
	return "**missed**: " + found
}

// ratioOf is how many times better ours is.
func ratioOf(r row, ours, peer spread) float64 {
	if r.more {
		return ours.median / peer.median
	}
	return peer.median / ours.median
}
