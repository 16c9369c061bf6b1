package httpapi

import (
	"bytes"
	"html"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// target is a request target taken apart.
type target struct {
	path  string // decoded
	query []byte // raw, without the question mark
	url   *url.URL
}

// parseTarget accepts what net/http accepts: an absolute path, a full URL, or "*". ok is false for anything else. The usual target, a
// path of plain letters, is only cut in two.
func parseTarget(raw []byte) (target, bool) {
	p, q, _ := bytes.Cut(raw, []byte{'?'})
	if len(p) > 0 && p[0] == '/' && !bytes.HasPrefix(p, []byte("//")) && plainPath(p) && !hasControl(q) {
		return target{path: string(p), query: q}, true
	}
	u, err := url.ParseRequestURI(string(raw))
	if err != nil {
		return target{}, false
	}
	return target{path: u.Path, query: []byte(u.RawQuery), url: u}, true
}

// plainPath tells a path that means what it says and needs no escape to be written.
func plainPath(p []byte) bool {
	for _, c := range p {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '/', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

func hasControl(raw []byte) bool {
	for _, c := range raw {
		if c < ' ' || c == 0x7f {
			return true
		}
	}
	return false
}

// requestURI is the target as the request log shows it.
func (t *target) requestURI(raw []byte) string {
	if t.url != nil {
		return t.url.RequestURI()
	}
	return string(raw)
}

// configPrefix begins the one path with a variable part, the option's name.
const configPrefix = "/config/"

// endpoints are the routes of each path, "/config/" standing for all options.
type endpoints map[string][]*route

// find returns the routes of a path and its variable part.
func (e endpoints) find(p string) (routes []*route, option string) {
	if rest, ok := strings.CutPrefix(p, configPrefix); ok {
		if rest == "" || strings.Contains(rest, "/") {
			return nil, ""
		}
		return e[configPrefix], rest
	}
	return e[p], ""
}

func (e endpoints) route(method, p string) *route {
	routes, _ := e.find(p)
	for _, r := range routes {
		if r.method == method {
			return r
		}
	}
	return nil
}

// methods lists the methods that have any route.
func (e endpoints) methods() []string {
	var list []string
	for _, routes := range e {
		for _, r := range routes {
			if !slices.Contains(list, r.method) {
				list = append(list, r.method)
			}
		}
	}
	return list
}

// redirect returns the path that was probably meant by p: without or with a slash at the end, then cleaned of empty and dot elements and
// regardless of letter case. "" = none. Methods without any route are never redirected.
func (e endpoints) redirect(method, p string) string {
	if p == "/" || !slices.Contains(e.methods(), method) {
		return ""
	}
	if other := toggleSlash(p); e.route(method, other) != nil {
		return other
	}
	clean := cleanPath(p)
	if known := e.foldCase(method, clean); known != "" {
		return known
	}
	return e.foldCase(method, toggleSlash(clean))
}

// foldCase finds the spelling of p that has a route. The variable part keeps its letters.
func (e endpoints) foldCase(method, p string) string {
	if n := len(configPrefix); len(p) > n && strings.EqualFold(p[:n], configPrefix) {
		p = configPrefix + p[n:]
		if e.route(method, p) != nil {
			return p
		}
		return ""
	}
	for known := range e {
		if known != configPrefix && strings.EqualFold(known, p) && e.route(method, known) != nil {
			return known
		}
	}
	return ""
}

func toggleSlash(p string) string {
	if trimmed, ok := strings.CutSuffix(p, "/"); ok {
		return trimmed
	}
	return p + "/"
}

// cleanPath is path.Clean, but a slash at the end stays.
func cleanPath(p string) string {
	slash := strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.")
	p = path.Clean("/" + p)
	if slash && p != "/" {
		p += "/"
	}
	return p
}

// allowed lists the methods of a path for the Allow header, alphabetically; "" = the path is unknown. "*" has all methods.
func (e endpoints) allowed(p string) string {
	var methods []string
	if p == "*" {
		methods = e.methods()
	} else {
		routes, _ := e.find(p)
		if len(routes) == 0 {
			return ""
		}
		for _, r := range routes {
			methods = append(methods, r.method)
		}
	}
	methods = append(methods, fasthttp.MethodOptions)
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// sendRedirect answers with the corrected path; the query stays. Only GET gets a page, and the method of the others is preserved.
func sendRedirect(ctx *fasthttp.RequestCtx, method string, t *target, fixed string) {
	u := t.url
	if u == nil {
		u = &url.URL{Path: t.path, RawQuery: string(t.query)}
	}
	moved := *u
	moved.Path, moved.RawPath = fixed, ""
	location := moved.String()
	ctx.Response.Header.Set(fasthttp.HeaderLocation, location)
	if method != fasthttp.MethodGet {
		ctx.Response.SetStatusCode(fasthttp.StatusTemporaryRedirect)
		return
	}
	ctx.Response.SetStatusCode(fasthttp.StatusMovedPermanently)
	ctx.Response.Header.SetContentType("text/html; charset=utf-8")
	ctx.Response.SetBodyString("<a href=\"" + html.EscapeString(location) + "\">Moved Permanently</a>.\n\n")
}
