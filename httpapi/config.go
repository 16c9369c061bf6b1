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
	var value any
	if list := s.lookupds.Load(); list != nil && r.option == keyLookupds {
		value = *list
	} else {
		var ok bool
		if value, ok = s.o.Config(r.option); !ok {
			return fail(fasthttp.StatusBadRequest, "INVALID_OPTION")
		}
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
		if refusal := s.putLookupds(value); refusal.status != 0 {
			return refusal
		}
	default:
		return fail(fasthttp.StatusBadRequest, "INVALID_OPTION")
	}
	return getConfig(s, r)
}

// putLookupds takes an empty list, which is what is the case anyway. Registering with nsqlookupd is not built yet, and an OK would let
// operators believe that this node can be found.
func (s *Server) putLookupds(value []byte) reply {
	var list []string
	if json.Unmarshal(value, &list) != nil {
		return fail(fasthttp.StatusBadRequest, "INVALID_VALUE")
	}
	if len(list) > 0 {
		s.o.Log.Warnf("HTTP: %s refused, nsqlookupd is not supported yet by this version", keyLookupds)
		return fail(fasthttp.StatusNotImplemented, "NSQLOOKUPD_NOT_SUPPORTED")
	}
	s.lookupds.Store(&list)
	return reply{}
}
