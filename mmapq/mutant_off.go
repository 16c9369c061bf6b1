//go:build !mutants

package mmapq

// Mutant tells whether a planted fault is switched on: in this build a constant that costs nothing. Builds with the tag mutants exist to show
// that the rigs find such faults; perf/crash lists them and names the rig of each.
func Mutant(string) bool { return false }
