//go:build !linux

package mmapq

// Elsewhere the build ends here, with this name as the message: the log needs fallocate, MAP_SHARED semantics and epoll of Linux.
var _ = nsqloop_runs_on_Linux_only
