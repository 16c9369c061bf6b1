package httpapi

import (
	"bytes"
	"net/http"
	"net/http/pprof"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
)

// Profiles are served by net/http/pprof itself, so tools see exactly what they know.
var (
	pprofIndex   = adapt(pprof.Index)
	pprofCmdline = adapt(pprof.Cmdline)
	pprofSymbol  = adapt(pprof.Symbol)
	pprofProfile = adapt(pprof.Profile)
)

func pprofNamed(name string) handler { return adapt(pprof.Handler(name).ServeHTTP) }

// debugBodyMax bounds what the debug endpoints read: a list of addresses, or a small form.
const debugBodyMax = 64 << 10

func adapt(h http.HandlerFunc) handler {
	serve := fasthttpadaptor.NewFastHTTPHandler(h)
	return func(s *Server, r *request) reply {
		b := s.openBody(r.ctx, debugBodyMax)
		defer b.release()
		text, err := b.all()
		if err != nil {
			return fail(fasthttp.StatusRequestEntityTooLarge, "BODY_TOO_BIG")
		}
		r.ctx.Request.SetBody(text) // the adapter would read the rest of the body without bound
		serve(r.ctx)
		return reply{direct: true}
	}
}

// setBlockRate sets the fraction of blocking events in the block profile. The rate comes from the form in the body, or from the query.
func setBlockRate(s *Server, r *request) reply {
	b := s.openBody(r.ctx, debugBodyMax)
	defer b.release()
	form, err := b.all()
	if err != nil {
		return fail(fasthttp.StatusRequestEntityTooLarge, "BODY_TOO_BIG")
	}
	var args query
	if bytes.HasPrefix(r.ctx.Request.Header.ContentType(), []byte("application/x-www-form-urlencoded")) {
		args, _ = parseQuery(args, form) // what could be read counts, as in net/http
	}
	args, _ = parseQuery(args, r.target.query)
	text, _ := args.get("rate")
	rate, err := strconv.Atoi(string(text))
	if err != nil {
		return reply{status: fasthttp.StatusBadRequest, body: []byte("invalid block rate : " + err.Error()), bare: true}
	}
	runtime.SetBlockProfileRate(rate)
	return reply{bare: true}
}

// freeMemory returns unused memory to the system.
func freeMemory(*Server, *request) reply {
	debug.FreeOSMemory()
	return reply{bare: true}
}
