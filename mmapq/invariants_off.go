//go:build !invariants

package mmapq

// Builds with the tag invariants check at run time what the comments of Segment, Log, State and ChannelSlot say; here the checks are empty.

func (r *Run) mustBeWhole()                     {}
func (l *Log) mustCommitForwards(Pos)           {}
func (l *Log) mustFollow(*Segment)              {}
func mustBeUnpinned([]*Segment)                 {}
func mustCountUp(uint16, uint16)                {}
func (s *ChannelSlot) mustMoveForward(int, Pos) {}
