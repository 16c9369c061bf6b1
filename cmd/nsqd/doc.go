// Command nsqd is the daemon that receives, queues and delivers messages.
//
// This package reads the options, starts the parts and stops them: main.go, daemon.go (what runs, in which order), wiring.go (options to
// parts), topics.go (nsqd.dat), limits.go, profile.go.
//
// The way of a message through the other packages, in reading order:
//
//	loop/conn.go        one read of a connection is one batch
//	codec/split.go      bytes to commands, in place
//	loop/publish.go     the publishes of a batch, appended together
//	fanout/publish.go   a topic takes them
//	mmapq/log.go        reserve, checksum and copy, commit
//	mmapq/segment.go    what a segment file holds
//	fanout/claim.go     a channel gives a run of messages to a consumer
//	loop/deliver.go     who gets how much, and when
//	loop/outbound.go    the run goes from the log to the socket
//	codec/fin.go        the consumer's answer
//	fanout/lease.go     what a consumer holds in flight, and FIN
//	mmapq/state.go      what is finished, and how often the rest was delivered
//	fanout/reclaim.go   the floor rises, segments go back to the pool
package main
