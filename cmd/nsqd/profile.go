package main

import (
	"github.com/nsqloop/nsqloop/cmd/internal/options"
	"github.com/pkg/profile"
)

// startProfile begins to write the profile that --profile asks for into dir, until Stop. nil: none is asked for.
func startProfile(kind options.Profile, dir string) interface{ Stop() } {
	var mode func(*profile.Profile)
	switch kind {
	case "cpu":
		mode = profile.CPUProfile
	case "mem":
		mode = profile.MemProfile
	case "mutex":
		mode = profile.MutexProfile
	case "block":
		mode = profile.BlockProfile
	case "trace":
		mode = profile.TraceProfile
	default:
		return nil
	}
	// The daemon handles signals itself and logs in its own form.
	return profile.Start(mode, profile.ProfilePath(dir), profile.NoShutdownHook, profile.Quiet)
}
