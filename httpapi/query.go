package httpapi

import (
	"bytes"
	"errors"
)

// query is a decoded query string. Keys and values alias the request where nothing had to be decoded.
type query []pair

type pair struct{ key, value []byte }

var (
	errSemicolon = errors.New("invalid semicolon separator in query")
	errEscape    = errors.New("invalid URL escape")
)

// parseQuery decodes raw, the part of the request target behind the first question mark, appending to q. The rules are those of
// net/url: pairs are separated by &, + is a space, a semicolon or a broken escape anywhere spoils the whole.
func parseQuery(q query, raw []byte) (query, error) {
	for len(raw) > 0 {
		part := raw
		if i := bytes.IndexByte(raw, '&'); i >= 0 {
			part, raw = raw[:i], raw[i+1:]
		} else {
			raw = nil
		}
		if len(part) == 0 {
			continue
		}
		if bytes.IndexByte(part, ';') >= 0 {
			return q, errSemicolon
		}
		key, value, _ := bytes.Cut(part, []byte{'='})
		var err error
		if key, err = unescape(key); err != nil {
			return q, err
		}
		if value, err = unescape(value); err != nil {
			return q, err
		}
		q = append(q, pair{key, value})
	}
	return q, nil
}

// get returns the first value of key. false: key is not there at all, which is not the same as empty.
func (q query) get(key string) ([]byte, bool) {
	for _, p := range q {
		if string(p.key) == key {
			return p.value, true
		}
	}
	return nil, false
}

// unescape decodes %XX and +. Text without either is returned as it is.
func unescape(s []byte) ([]byte, error) {
	if bytes.IndexByte(s, '%') < 0 && bytes.IndexByte(s, '+') < 0 {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '%':
			if i+2 >= len(s) {
				return nil, errEscape
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 0 || lo < 0 {
				return nil, errEscape
			}
			out = append(out, byte(hi<<4|lo))
			i += 2
		case '+':
			out = append(out, ' ')
		default:
			out = append(out, s[i])
		}
	}
	return out, nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
