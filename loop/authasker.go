package loop

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// AuthOptions say whom to ask about the permissions of clients. No address: nobody, everything is permitted.
type AuthOptions struct {
	Addresses      []string      // host:port, asked at http://host:port/auth, or a whole URL
	Post           bool          // ask with POST instead of GET
	ConnectTimeout time.Duration // 0: none
	RequestTimeout time.Duration // of one request, redirects included; 0: none
	TLS            *tls.Config   // of https addresses
}

// authClient is what an auth server is told about a client.
type authClient struct {
	remoteIP   string // empty on a Unix socket
	tls        bool
	commonName string
	secret     string
}

func (a *authClient) values() url.Values {
	return url.Values{
		"common_name": {a.commonName}, "remote_ip": {a.remoteIP}, "secret": {a.secret}, "tls": {strconv.FormatBool(a.tls)},
	}
}

// authAsker speaks HTTP with auth servers. Any goroutine.
type authAsker struct {
	opt      AuthOptions
	http     *http.Client
	patterns patternCache
}

const (
	authTLSTimeout  = 10 * time.Second
	authIdleTimeout = 30 * time.Second
)

func newAuthAsker(opt AuthOptions) *authAsker {
	dialer := net.Dialer{Timeout: opt.ConnectTimeout}
	return &authAsker{opt: opt, http: &http.Client{
		Timeout: opt.RequestTimeout,
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        opt.TLS,
			TLSHandshakeTimeout:    authTLSTimeout,
			ResponseHeaderTimeout:  opt.RequestTimeout,
			MaxResponseHeaderBytes: authAnswerMax,
			MaxIdleConnsPerHost:    authWorkers,
			IdleConnTimeout:        authIdleTimeout,
		},
	}}
}

func (a *authAsker) close() { a.http.CloseIdleConnections() }

// ask tries every address once, from a random one on, until one gives a valid answer.
func (a *authAsker) ask(ctx context.Context, client *authClient) (*authGrants, error) {
	addresses := a.opt.Addresses
	var failures []string
	start := rand.IntN(len(addresses))
	for i := range addresses {
		address := addresses[(start+i)%len(addresses)]
		g, err := a.askOne(ctx, address, client)
		if err == nil {
			return g, nil
		}
		failures = append(failures, fmt.Sprintf("failed to auth against %s - %s", address, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.New(strings.Join(failures, "; "))
}

func (a *authAsker) askOne(ctx context.Context, address string, client *authClient) (*authGrants, error) {
	endpoint := address
	if !strings.Contains(address, "://") {
		endpoint = "http://" + address + "/auth"
	}
	values := client.values()
	var body []byte
	if a.opt.Post {
		var err error
		if body, err = json.Marshal(values); err != nil {
			return nil, err
		}
	} else {
		endpoint += "?" + values.Encode()
	}
	status, text, answer, err := a.roundTrip(ctx, endpoint, body)
	if err == nil && status == http.StatusForbidden && !strings.HasPrefix(endpoint, "https") {
		if endpoint, err = secureEndpoint(endpoint, answer); err == nil {
			status, text, answer, err = a.roundTrip(ctx, endpoint, body)
		}
	}
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("got response %s %q", text, clip(string(answer)))
	}
	return parseGrants(answer, &a.patterns)
}

// roundTrip sends one request; body is nil for GET.
func (a *authAsker) roundTrip(ctx context.Context, endpoint string, body []byte) (status int, text string, answer []byte, err error) {
	method := http.MethodGet
	var reader io.Reader
	if a.opt.Post {
		method, reader = http.MethodPost, bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, endpoint, reader)
	if err != nil {
		return 0, "", nil, withoutURL(err)
	}
	req.Header.Set("Accept", "application/vnd.nsq; version=1.0")
	if a.opt.Post {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return 0, "", nil, withoutURL(err)
	}
	answer, err = io.ReadAll(io.LimitReader(resp.Body, authAnswerMax+1))
	if err == nil && len(answer) > authAnswerMax {
		err = fmt.Errorf("the answer has more than %d bytes", authAnswerMax)
	}
	return resp.StatusCode, resp.Status, answer, errors.Join(err, resp.Body.Close())
}

// withoutURL drops the address from an error of the HTTP client: the client's secret stands in it.
func withoutURL(err error) error {
	if of := (*url.Error)(nil); errors.As(err, &of) {
		return of.Err
	}
	return err
}

// secureEndpoint is where a server that answered 403 with {"https_port": N} wants to be asked.
func secureEndpoint(endpoint string, answer []byte) (string, error) {
	var forbidden struct {
		Port int `json:"https_port"`
	}
	if err := json.Unmarshal(answer, &forbidden); err != nil {
		return "", err
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", withoutURL(err)
	}
	host, _, err := net.SplitHostPort(u.Host)
	if err != nil {
		return "", err
	}
	u.Scheme = "https"
	u.Host = net.JoinHostPort(host, strconv.Itoa(forbidden.Port))
	return u.String(), nil
}
