//go:build !mutants

package fanout

import "github.com/nsqloop/nsqloop/mmapq"

// The mutants build plants bugs that the crash rig must catch; here they are constants that cost nothing.
func mutantAckBeforeAppend(*Topic) bool             { return false }
func mutantForgetInFlight(*Channel, mmapq.Pos) bool { return false }
