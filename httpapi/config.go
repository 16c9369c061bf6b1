package httpapi

import (
	"encoding/json"

	"github.com/valyala/fasthttp"
)

const (
	keyLogLevel = "log_level"
	keyLookupds = "nsqlookupd_tcp_addresses"
)

// getConfig answers with one option: strings raw, everything else as JSON.
func getConfig(s *Server, r *request) reply {
	value, ok := s.o.Config(r.option)
	if !ok {
		return fail(fasthttp.StatusBadRequest, "INVALID_OPTION")
	}
	if text, ok := value.(string); ok {
		return textReply(text)
	}
	return jsonReply(value)
}

// putConfig changes one of two options and answers as getConfig does. The size of the body is checked before anything else.
func putConfig(s *Server, r *request) reply {
	b := s.openBody(r.ctx, s.o.MaxMsgSize)
	defer b.release()
	value, err := b.all()
	switch {
	case err == errBodyTooLong || err == nil && len(value) == 0:
		return fail(fasthttp.StatusRequestEntityTooLarge, "INVALID_VALUE")
	case err != nil:
		return fail(fasthttp.StatusInternalServerError, "INTERNAL_ERROR")
	}
	switch r.option {
	case keyLogLevel:
		if s.o.SetLogLevel(string(value)) != nil {
			return fail(fasthttp.StatusBadRequest, "INVALID_VALUE")
		}
	case keyLookupds:
		var list []string
		if json.Unmarshal(value, &list) != nil {
			return fail(fasthttp.StatusBadRequest, "INVALID_VALUE")
		}
		s.o.SetLookupds(list)
	default:
		return fail(fasthttp.StatusBadRequest, "INVALID_OPTION")
	}
	return getConfig(s, r)
}
