package httpapi

import (
	"runtime/debug"
	"time"

	"github.com/valyala/fasthttp"
)

// request is one request on its way through a handler. Owned by the request's goroutine.
type request struct {
	ctx    *fasthttp.RequestCtx
	target target
	option string // variable part of /config/:opt
	args   query  // parsed by params
	argBuf [8]pair
}

// handler serves one endpoint.
type handler func(s *Server, r *request) reply

// route is one line of the table. before runs ahead of the handler when the client waits for leave to send its body; a reply with a
// status refuses. wantsBody says that the handler reads the body at all.
type route struct {
	method, path string
	handle       handler
	log          bool // in the request log
	wantsBody    bool
	before       func(s *Server, r *request) (reply, bool)
}

const (
	get  = fasthttp.MethodGet
	post = fasthttp.MethodPost
	put  = fasthttp.MethodPut
)

// table is nsqd's API.
var table = []route{
	{method: get, path: "/ping", handle: ping, log: true},
	{method: get, path: "/info", handle: info, log: true},
	{method: get, path: "/stats", handle: stats, log: true},
	{method: get, path: "/metrics", handle: showMetrics},

	{method: post, path: "/pub", handle: pub, wantsBody: true, before: pubBefore},
	{method: post, path: "/mpub", handle: mpub, wantsBody: true, before: mpubBefore},

	{method: post, path: "/topic/create", handle: createTopic, log: true},
	{method: post, path: "/topic/delete", handle: deleteTopic, log: true, wantsBody: true},
	{method: post, path: "/topic/empty", handle: emptyTopic, log: true, wantsBody: true},
	{method: post, path: "/topic/pause", handle: pauseTopic, log: true, wantsBody: true},
	{method: post, path: "/topic/unpause", handle: unpauseTopic, log: true, wantsBody: true},

	{method: post, path: "/channel/create", handle: createChannel, log: true, wantsBody: true},
	{method: post, path: "/channel/delete", handle: deleteChannel, log: true, wantsBody: true},
	{method: post, path: "/channel/empty", handle: emptyChannel, log: true, wantsBody: true},
	{method: post, path: "/channel/pause", handle: pauseChannel, log: true, wantsBody: true},
	{method: post, path: "/channel/unpause", handle: unpauseChannel, log: true, wantsBody: true},

	{method: get, path: configPrefix, handle: getConfig, log: true},
	{method: put, path: configPrefix, handle: putConfig, log: true, wantsBody: true},

	{method: get, path: "/debug/pprof/", handle: pprofIndex},
	{method: get, path: "/debug/pprof/cmdline", handle: pprofCmdline},
	{method: get, path: "/debug/pprof/symbol", handle: pprofSymbol},
	{method: post, path: "/debug/pprof/symbol", handle: pprofSymbol, wantsBody: true},
	{method: get, path: "/debug/pprof/profile", handle: pprofProfile},
	{method: get, path: "/debug/pprof/heap", handle: pprofNamed("heap")},
	{method: get, path: "/debug/pprof/goroutine", handle: pprofNamed("goroutine")},
	{method: get, path: "/debug/pprof/block", handle: pprofNamed("block")},
	{method: get, path: "/debug/pprof/threadcreate", handle: pprofNamed("threadcreate")},
	{method: put, path: "/debug/setblockrate", handle: setBlockRate, log: true, wantsBody: true},
	{method: post, path: "/debug/freememory", handle: freeMemory, log: true},
}

func buildEndpoints(table []route) endpoints {
	e := make(endpoints)
	for i := range table {
		r := &table[i]
		e[r.path] = append(e[r.path], r)
	}
	return e
}

// serve answers one request whose body, if any, may be read.
func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	if !s.refusesPlain(ctx) {
		s.dispatch(ctx, false)
	}
}

// expect is asked when a client wants to know, before it sends the body, whether it may. 100 = it may, and serve follows; anything else
// is the final answer, already written, and the connection ends with it. So a refused body is never read.
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	if s.refusesPlain(ctx) || s.dispatch(ctx, true) {
		closeUnread(ctx)
		return ctx.Response.StatusCode()
	}
	return fasthttp.StatusContinue
}

// dispatch finds the route and answers. With bodyAhead it answers only what needs no body, and reports whether it did.
func (s *Server) dispatch(ctx *fasthttp.RequestCtx, bodyAhead bool) (answered bool) {
	start := time.Now()
	method := string(ctx.Method())
	raw := ctx.Request.Header.RequestURI()
	r := &request{ctx: ctx}
	var ok bool
	if r.target, ok = parseTarget(raw); !ok {
		malformed(ctx, fasthttp.StatusBadRequest, "400 Bad Request")
		return true
	}
	if expectation := ctx.Request.Header.Peek(fasthttp.HeaderExpect); len(expectation) > 0 && !bodyAhead && !isContinue(expectation) {
		ctx.Response.SetStatusCode(fasthttp.StatusExpectationFailed)
		ctx.SetConnectionClose()
		return true
	}
	var routes []*route
	routes, r.option = s.endpoints.find(r.target.path)
	for _, candidate := range routes {
		if candidate.method == method {
			return s.run(candidate, r, raw, start, bodyAhead)
		}
	}
	s.unrouted(ctx, method, r, raw, start)
	return true
}

// run calls the handler of a route.
func (s *Server) run(rt *route, r *request, raw []byte, start time.Time, bodyAhead bool) (answered bool) {
	defer s.recoverPanic(r, raw, start)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a failing page of the log is a panic too, not the end of the process
	var answer reply
	if bodyAhead && rt.wantsBody {
		if rt.before == nil {
			return false
		}
		refusal, refused := rt.before(s, r)
		if !refused {
			return false
		}
		answer = refusal
	} else {
		answer = rt.handle(s, r)
	}
	if rt.log {
		s.logRequest(r, raw, answer.code(), start)
	}
	answer.write(r.ctx)
	return true
}

// recoverPanic turns a crashed handler into an answer: one broken request must not end the daemon for everyone.
func (s *Server) recoverPanic(r *request, raw []byte, start time.Time) {
	p := recover()
	if p == nil {
		return
	}
	s.o.Log.Errorf("panic in HTTP handler - %v", p)
	answer := fail(fasthttp.StatusInternalServerError, "INTERNAL_ERROR")
	s.logRequest(r, raw, answer.code(), start)
	r.ctx.Response.Reset()
	r.ctx.SetConnectionClose()
	answer.write(r.ctx)
}

// unrouted answers what no route matches: a redirect, the list of methods, 405 or 404.
func (s *Server) unrouted(ctx *fasthttp.RequestCtx, method string, r *request, raw []byte, start time.Time) {
	p := r.target.path
	if fixed := s.endpoints.redirect(method, p); fixed != "" {
		sendRedirect(ctx, method, &r.target, fixed)
		return
	}
	allow := s.endpoints.allowed(p)
	var answer reply
	switch {
	case method == fasthttp.MethodOptions && p == "*":
		return // about the server, not about a path: 200 and nothing else
	case method == fasthttp.MethodOptions && allow != "":
		ctx.Response.Header.Set(fasthttp.HeaderAllow, allow)
		return
	case allow != "":
		answer = fail(fasthttp.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
		answer.allow = allow
	default:
		answer = fail(fasthttp.StatusNotFound, "NOT_FOUND")
	}
	s.logRequest(r, raw, answer.code(), start)
	answer.write(ctx)
}

func (s *Server) logRequest(r *request, raw []byte, status int, start time.Time) {
	s.o.Access("%d %s %s (%s) %s", status, r.ctx.Method(), r.target.requestURI(raw), r.ctx.RemoteAddr(), time.Since(start))
}

// params parses the query string once. A bad one is an answer of its own.
func (s *Server) params(r *request) (refusal reply, ok bool) {
	args, err := parseQuery(r.argBuf[:0], r.target.query)
	if err != nil {
		s.o.Log.Errorf("failed to parse request params - %s", err)
		return fail(fasthttp.StatusBadRequest, "INVALID_REQUEST"), false
	}
	r.args = args
	return reply{}, true
}
