//go:build mutants

package mmapq

import "os"

var mutant = os.Getenv("NSQLOOP_MUTANT")

// Mutant tells whether the fault of that name was chosen by the environment.
func Mutant(name string) bool { return mutant == name }
