// Package httpapi is nsqd's HTTP interface, on fasthttp.
//
// A request takes this way: listener.go accepts it, server.go hands it to the table in routes.go (path.go finds the endpoint, or the
// redirect), a handler of one endpoint family (pub.go, mpub.go, topic.go, channel.go, stats.go, info.go, config.go, debug.go) reads its
// parameters (query.go) and body (body.go) and returns a reply, which reply.go writes.
//
// Every request has its own goroutine, so handlers may wait for the disk. What they share is the broker, which is safe for any goroutine,
// and the Server, whose fields do not change after New but for those that say so.
package httpapi
