package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

const (
	oomLimit = 1 << 20
	oomWait  = 3 * time.Second
)

// memoryGroups are the places where a process may be given a limit of memory: the file of the limit below the hierarchy, version 2 first.
var memoryGroups = []struct{ root, sign, limit string }{
	{"/sys/fs/cgroup", "cgroup.controllers", "memory.max"},
	{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.limit_in_bytes"},
}

// oomKill puts the daemon into a group with nearly no memory and waits until the kernel has killed it. False: this machine has no such groups,
// or the daemon lives with that; it still runs then.
func oomKill(p *daemon.Process) (killed bool, err error) {
	for _, g := range memoryGroups {
		if _, err := os.Stat(filepath.Join(g.root, g.sign)); err != nil {
			continue
		}
		dir := filepath.Join(g.root, fmt.Sprintf("nsqloop-crash-%d", p.PID()))
		if os.Mkdir(dir, 0o755) != nil {
			continue // not for us
		}
		limited := os.WriteFile(filepath.Join(dir, g.limit), []byte(strconv.Itoa(oomLimit)), 0o600)
		if limited == nil {
			limited = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(p.PID())), 0o600)
		}
		if limited == nil {
			select {
			case <-p.Done():
				killed = true
			case <-time.After(oomWait):
			}
		}
		// An empty group goes at once; one with the daemon in it after its end.
		return killed, errors.Join(p.Kill(), removeGroup(dir))
	}
	return false, nil
}

func removeGroup(dir string) error {
	var err error
	for range 100 { // the kernel may still be at the last thread of what was in it
		if err = os.Remove(dir); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return err
}
