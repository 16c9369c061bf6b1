package loop

import (
	"fmt"
	"os"
)

// childEnv makes the test binary act as a process of its own: its value names which.
const childEnv = "NSQLOOP_LOOP_CHILD"

func childMain() int {
	if err := childFewDescriptors(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
