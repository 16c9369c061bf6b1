//go:build !mutants

package fanout

// mutantEvery is a constant that costs nothing in this build; see mmapq.Mutant.
func mutantEvery(string, uint64) bool { return false }
