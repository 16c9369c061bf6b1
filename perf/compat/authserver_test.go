package compat

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// authAddress is host:port of the auth server that $auth stands for in flags.
// It serves all conversations until the test process ends.
//
// The secret of an AUTH is what it answers: several answers are separated by
// ";;", for the first question with this secret, the second and so on; the last
// one holds from then on. Answers are taken as they are, except
//
//	echo           permits everything; the identity tells what was asked
//	status N       status N
//	forbidden N    status 403 that names port N for HTTPS
//	sleep D        everything, after the duration D
//	moved          a redirect to where the answer is everything
//	everything     permits everything for a minute
var authAddress = sync.OnceValue(func() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := &authServer{asked: map[string]int{}}
	go func() { panic(http.Serve(ln, s)) }()
	return ln.Addr().String()
})

type authServer struct {
	mu    sync.Mutex
	asked map[string]int // questions by secret
}

const authEverything = `{"ttl":60,"identity":%q,"authorizations":[{"topic":".*","channels":[".*"],"permissions":["publish","subscribe"]}]}`

func (s *authServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := s.next(r.URL.Query().Get("secret"))
	if r.Method == http.MethodPost {
		answer = "echo"
	}
	word, rest, _ := strings.Cut(answer, " ")
	switch word {
	case "echo":
		what := fmt.Sprintf("%s %s %s|%s|%s", r.Method, r.URL, body, r.Header.Get("Accept"), r.Header.Get("Content-Type"))
		answer = fmt.Sprintf(authEverything, what)
	case "everything":
		answer = fmt.Sprintf(authEverything, "me")
	case "moved":
		http.Redirect(w, r, "/elsewhere?secret=everything", http.StatusFound)
		return
	case "sleep":
		d, err := time.ParseDuration(rest)
		if err != nil {
			panic(err)
		}
		time.Sleep(d)
		answer = fmt.Sprintf(authEverything, "late")
	case "status":
		status, err := strconv.Atoi(rest)
		if err != nil {
			panic(err)
		}
		w.WriteHeader(status)
		answer = fmt.Sprintf(authEverything, "me")
	case "forbidden":
		w.WriteHeader(http.StatusForbidden)
		answer = `{"https_port":` + rest + `}`
	}
	_, _ = io.WriteString(w, answer)
}

// next is the answer to one more question with the secret.
func (s *authServer) next(secret string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	answers := strings.Split(secret, ";;")
	n := min(s.asked[secret], len(answers)-1)
	s.asked[secret]++
	return answers[n]
}
