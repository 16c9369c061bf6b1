package compat

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// expand turns the notation of a script (see the package documentation) into
// the bytes it stands for.
func expand(text string, vars map[string]string) ([]byte, error) {
	e := expander{in: text, vars: vars}
	out, err := e.run(0)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	return out, nil
}

type expander struct {
	in   string
	pos  int
	vars map[string]string
}

// run reads up to the given closing byte, or to the end of the text for 0.
func (e *expander) run(closing byte) ([]byte, error) {
	var out []byte
	for e.pos < len(e.in) {
		c := e.in[e.pos]
		e.pos++
		if c == closing {
			return out, nil
		}
		piece, err := e.piece(c)
		if err != nil {
			return nil, err
		}
		out = append(out, piece...)
	}
	if closing != 0 {
		return nil, fmt.Errorf("missing %q", closing)
	}
	return out, nil
}

func (e *expander) piece(c byte) ([]byte, error) {
	switch c {
	case '\\':
		return e.escape()
	case '$':
		return e.variable()
	case '[':
		body, err := e.run(']')
		if err != nil {
			return nil, err
		}
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...), nil
	case '<':
		inner, err := e.run('>')
		if err != nil {
			return nil, err
		}
		return numberOrRepeat(string(inner))
	case ']':
		return nil, fmt.Errorf("unbalanced %q, write \\%c", c, c)
	}
	return []byte{c}, nil
}

func (e *expander) escape() ([]byte, error) {
	if e.pos == len(e.in) {
		return nil, fmt.Errorf("backslash at the end")
	}
	c := e.in[e.pos]
	e.pos++
	switch c {
	case 'n':
		return []byte{'\n'}, nil
	case 'r':
		return []byte{'\r'}, nil
	case 't':
		return []byte{'\t'}, nil
	case '\\', '[', ']', '<', '>', '$':
		return []byte{c}, nil
	case 'x':
		if e.pos+2 > len(e.in) {
			return nil, fmt.Errorf("short \\x escape")
		}
		v, err := strconv.ParseUint(e.in[e.pos:e.pos+2], 16, 8)
		e.pos += 2
		return []byte{byte(v)}, err
	}
	return nil, fmt.Errorf("unknown escape \\%c", c)
}

func (e *expander) variable() ([]byte, error) {
	rest := e.in[e.pos:]
	var name string
	if strings.HasPrefix(rest, "{") {
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return nil, fmt.Errorf("missing } after ${")
		}
		name = rest[1:end]
		e.pos += end + 1
	} else {
		n := strings.IndexFunc(rest, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9')
		})
		if n < 0 {
			n = len(rest)
		}
		name = rest[:n]
		e.pos += n
	}
	if strings.HasPrefix(e.in[e.pos:], "@") {
		e.pos++
		name += e.vars["i"]
	}
	value, ok := e.vars[name]
	if !ok {
		return nil, fmt.Errorf("$%s is not bound", name)
	}
	return []byte(value), nil
}

func numberOrRepeat(inner string) ([]byte, error) {
	if text, count, ok := strings.Cut(inner, "*"); ok {
		n, err := strconv.Atoi(count)
		if err != nil {
			return nil, err
		}
		return []byte(strings.Repeat(text, n)), nil
	}
	n, err := strconv.ParseInt(inner, 10, 32)
	if err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint32(nil, uint32(int32(n))), nil
}
