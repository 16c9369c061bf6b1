package httpapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"

	"github.com/valyala/fasthttp"
)

// reply is what a handler returns. The zero reply is status 200 with an empty body.
type reply struct {
	status int // 0 = 200
	body   []byte
	json   bool   // body is JSON; otherwise its type is guessed from the content, as the stock daemon does
	text   bool   // body is plain text, and that is known without a look
	bare   bool   // without X-Nsq-Content-Type
	direct bool   // the handler has already written the response
	allow  string // Allow header, "" = none
	stream stream // instead of body: written while it is made
}

// stream is a body that writes itself into the response.
type stream interface {
	io.Reader
	fasthttp.BodyWriterTo
}

var okReply = reply{body: []byte("OK")}

func textReply(text string) reply { return reply{body: []byte(text)} }

// fail is an error answer. code is one of the fixed words of the API.
func fail(status int, code string) reply {
	return reply{status: status, json: true, body: []byte(`{"message":"` + code + `"}`)}
}

// jsonReply encodes v compactly, with <, > and & escaped and no newline at the end.
func jsonReply(v any) reply {
	body, err := json.Marshal(v)
	if err != nil {
		// Only types of this package are encoded, and they always can be.
		panic("BUG: reply does not encode: " + err.Error())
	}
	return reply{json: true, body: body}
}

// code is the status that is sent.
func (r *reply) code() int {
	if r.status == 0 {
		return fasthttp.StatusOK
	}
	return r.status
}

const (
	jsonType   = "application/json; charset=utf-8"
	textType   = "text/plain; charset=utf-8"
	nsqHeader  = "X-Nsq-Content-Type"
	nsqVersion = "nsq; version=1.0"
)

// write puts the reply into the response of ctx. The body is not copied, so it must not change afterwards.
func (r *reply) write(ctx *fasthttp.RequestCtx) {
	if r.direct {
		return
	}
	h := &ctx.Response.Header
	ctx.Response.SetStatusCode(r.code())
	switch {
	case r.json:
		h.SetContentType(jsonType)
	case r.text || bytes.Equal(r.body, okReply.body):
		h.SetContentType(textType)
	case len(r.body) > 0:
		h.SetContentType(http.DetectContentType(r.body))
	}
	if !r.bare {
		h.Set(nsqHeader, nsqVersion)
	}
	if r.allow != "" {
		h.Set(fasthttp.HeaderAllow, r.allow)
	}
	if r.stream == nil {
		ctx.Response.SetBodyRaw(r.body)
		return
	}
	if !ctx.Request.Header.IsHTTP11() { // has no chunks
		var body bytes.Buffer
		// A buffer takes everything.
		_, _ = r.stream.WriteTo(&body)
		ctx.Response.SetBodyRaw(body.Bytes())
		return
	}
	ctx.Response.SetBodyStream(r.stream, -1)
}
