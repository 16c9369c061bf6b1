// Package lookupd is service discovery: which nsqd has which topic.
//
// A Registry knows who registered what, all in memory; a Server fills it over the lookup protocol V1; the HTTP API beside it lives in httpapi.
//
//	registry.go   topics, channels, peers; one lock for writers
//	topic.go      what a lookup reads: immutable snapshots with their JSON
//	views.go      /topics, /channels, /nodes, /debug
//	server.go     listener, limits, stopping
//	session.go    one connection: magic, lines, replies
//	peer.go       reading replies, for clients
package lookupd
