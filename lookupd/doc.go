// Package lookupd is service discovery: which nsqd has which topic.
//
// The server side is a Registry (who registered what, all in memory) and a Server that fills it over the lookup protocol V1; the HTTP API
// beside it lives in httpapi. The client side, Peers, is how an nsqd announces itself to every nsqlookupd it was told of.
//
//	registry.go       topics, channels, peers; one lock for writers
//	topic.go          what a lookup reads: immutable snapshots with their JSON
//	views.go          /topics, /channels, /nodes, /debug
//	server.go         listener, limits, stopping
//	session.go        one connection: magic, lines, replies
//	peers.go          nsqd's connections to all nsqlookupds
//	peer.go           one of them
//	channelquery.go   which channels a new topic has elsewhere
package lookupd
