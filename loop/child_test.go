package loop

// childEnv makes the test binary act as a process of its own, see childMain.
const childEnv = "NSQLOOP_LOOP_CHILD"

func childMain() int { return 0 }
