package main

import (
	"fmt"

	"github.com/pkg/profile"
)

var profiles = map[string]func(*profile.Profile){
	"cpu": profile.CPUProfile, "mem": profile.MemProfile, "mutex": profile.MutexProfile, "block": profile.BlockProfile, "trace": profile.TraceProfile,
}

// startProfile profiles this program, until stop.
func startProfile(kind, dir string) (stop func(), err error) {
	mode, known := profiles[kind]
	if !known {
		return nil, fmt.Errorf("-profile %s: want cpu, mem, mutex, block or trace", kind)
	}
	return profile.Start(mode, profile.ProfilePath(dir), profile.NoShutdownHook, profile.Quiet).Stop, nil
}
