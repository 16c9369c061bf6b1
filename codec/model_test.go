package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The model reads a conversation the slow and obvious way: one byte after the other, one check after the other, in the
// order of the protocol's tables. The Splitter must agree with it on every command, every refusal, and on how many
// bytes had to arrive before each of them.

// event is one thing a session gets to know: a command, a refusal, or the refusal owed at the end of the input.
type event struct {
	at   int // bytes of the conversation that had to be there
	text string
}

type model struct {
	in     string
	at     int
	lim    Limits
	pol    Policy
	events []event
}

var (
	errModelEnd     = errors.New("input ends")
	errModelRefused = errors.New("refused")
	modelName       = regexp.MustCompile(`\A[.A-Za-z0-9_-]{1,64}\z|\A[.A-Za-z0-9_-]{1,54}#ephemeral\z`)
)

// modelEvents gives the events of a whole conversation and the refusal owed if it ends here.
func modelEvents(in string, lim Limits, pol Policy) ([]event, string) {
	m := &model{in: in, lim: lim, pol: pol}
	for {
		err := m.command()
		switch {
		case err == nil:
			continue
		case errors.Is(err, errModelEnd):
			owed := strings.TrimSuffix(err.Error(), errModelEnd.Error())
			return m.events, strings.TrimSuffix(owed, ": ")
		default:
			return m.events, ""
		}
	}
}

func (m *model) say(format string, args ...any) {
	m.events = append(m.events, event{m.at, fmt.Sprintf(format, args...)})
}

func (m *model) refuse(format string, args ...any) error {
	m.say("FATAL "+format, args...)
	return errModelRefused
}

func (m *model) number(owed string) (int, error) {
	var n uint32
	for range 4 {
		if m.at == len(m.in) {
			return 0, fmt.Errorf("%s: %w", owed, errModelEnd)
		}
		n = n<<8 | uint32(m.in[m.at])
		m.at++
	}
	return int(int32(n)), nil
}

func (m *model) bytes(n int, owed string) (string, error) {
	if len(m.in)-m.at < n {
		return "", fmt.Errorf("%s: %w", owed, errModelEnd)
	}
	m.at += n
	return m.in[m.at-n : m.at], nil
}

func (m *model) line() (string, error) {
	for start := m.at; m.at < len(m.in); {
		m.at++
		if m.in[m.at-1] == '\n' {
			return strings.TrimSuffix(m.in[start:m.at-1], "\r"), nil
		}
		if m.at-start == 16384 {
			return "", m.refuse("")
		}
	}
	return "", errModelEnd
}

// decimal gives the value modulo 2^64.
func decimal(s string) (uint64, bool) {
	if strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	v, _ := new(big.Int).SetString("0"+s, 10)
	return v.And(v, new(big.Int).SetUint64(1<<64-1)).Uint64(), true
}

func (m *model) command() error {
	line, err := m.line()
	if err != nil {
		return err
	}
	words := strings.Split(line, " ")
	name, args := words[0], words[1:]
	if m.pol.TLSRequired && name != "IDENTIFY" {
		return m.refuse("E_INVALID cannot %s in current state (TLS required)", name)
	}
	allowed := map[string][]State{
		"IDENTIFY": {StateInit}, "AUTH": {StateInit}, "SUB": {StateInit}, "CLS": {StateSubscribed},
		"RDY": {StateSubscribed, StateClosing}, "FIN": {StateSubscribed, StateClosing},
		"REQ": {StateSubscribed, StateClosing}, "TOUCH": {StateSubscribed, StateClosing},
		"PUB": nil, "DPUB": nil, "MPUB": nil, "NOP": nil,
	}
	states, known := allowed[name]
	if !known {
		return m.refuse("E_INVALID invalid command %s", name)
	}
	ok := states == nil
	for _, st := range states {
		ok = ok || st == m.pol.State
	}
	if !ok {
		return m.refuse("E_INVALID cannot %s in current state", name)
	}
	switch name {
	case "IDENTIFY", "AUTH":
		return m.identifyOrAuth(name, args)
	case "SUB":
		return m.sub(args)
	case "RDY":
		return m.rdy(args)
	case "FIN", "REQ", "TOUCH":
		return m.ack(name, args)
	case "PUB", "DPUB":
		return m.pub(name, args)
	case "MPUB":
		return m.mpub(args)
	case "CLS":
		m.pol.State = StateClosing
	}
	m.say("%s", name)
	return nil
}

func (m *model) identifyOrAuth(name string, args []string) error {
	if name == "AUTH" && len(args) > 0 {
		return m.refuse("E_INVALID AUTH invalid number of parameters")
	}
	size, err := m.number("E_BAD_BODY " + name + " failed to read body size")
	switch {
	case err != nil:
		return err
	case int64(size) > m.lim.MaxBodySize:
		return m.refuse("E_BAD_BODY %s body too big %d > %d", name, size, m.lim.MaxBodySize)
	case size <= 0:
		return m.refuse("E_BAD_BODY %s invalid body size %d", name, size)
	}
	body, err := m.bytes(size, "E_BAD_BODY "+name+" failed to read body")
	if err != nil {
		return err
	}
	m.say("%s %q", name, body)
	if name == "IDENTIFY" { // as followConversation does, not a rule of the protocol
		var req struct {
			HeartbeatInterval int `json:"heartbeat_interval"`
		}
		m.pol.HeartbeatsOff = json.Unmarshal([]byte(body), &req) == nil && req.HeartbeatInterval == -1
	}
	return nil
}

func (m *model) sub(args []string) error {
	switch {
	case m.pol.HeartbeatsOff:
		return m.refuse("E_INVALID cannot SUB with heartbeats disabled")
	case len(args) < 2:
		return m.refuse("E_INVALID SUB insufficient number of parameters")
	case !modelName.MatchString(args[0]):
		return m.refuse("E_BAD_TOPIC SUB topic name %q is not valid", args[0])
	case !modelName.MatchString(args[1]):
		return m.refuse("E_BAD_CHANNEL SUB channel name %q is not valid", args[1])
	}
	m.pol.State = StateSubscribed
	m.say("SUB %s %s", args[0], args[1])
	return nil
}

func (m *model) rdy(args []string) error {
	if m.pol.State == StateClosing {
		m.say("NOP")
		return nil
	}
	count := uint64(1)
	if len(args) > 0 {
		var ok bool
		if count, ok = decimal(args[0]); !ok {
			return m.refuse("E_INVALID RDY could not parse count %s", args[0])
		}
	}
	if int64(count) < 0 || int64(count) > m.lim.MaxRdyCount {
		return m.refuse("E_INVALID RDY count %d out of range 0-%d", int64(count), m.lim.MaxRdyCount)
	}
	m.say("RDY %d", count)
	return nil
}

func (m *model) ack(name string, args []string) error {
	need := 1
	if name == "REQ" {
		need = 2
	}
	if len(args) < need {
		return m.refuse("E_INVALID %s insufficient number of params", name)
	}
	if len(args[0]) != 16 {
		return m.refuse("E_INVALID invalid message ID")
	}
	if name != "REQ" {
		m.say("%s %q", name, args[0])
		return nil
	}
	ms, ok := decimal(args[1])
	if !ok {
		return m.refuse("E_INVALID REQ could not parse timeout %s", args[1])
	}
	delay := int64(ms * uint64(time.Millisecond))
	if delay < 0 {
		delay = 0
	} else if delay > int64(m.lim.MaxReqTimeout) {
		delay = int64(m.lim.MaxReqTimeout)
	}
	m.say("REQ %q %d %d", args[0], int64(ms), delay)
	return nil
}

func (m *model) pub(name string, args []string) error {
	need := 1
	if name == "DPUB" {
		need = 2
	}
	if len(args) < need {
		return m.refuse("E_INVALID %s insufficient number of parameters", name)
	}
	if !modelName.MatchString(args[0]) {
		return m.refuse("E_BAD_TOPIC %s topic name %q is not valid", name, args[0])
	}
	suffix := ""
	if name == "DPUB" {
		ms, ok := decimal(args[1])
		if !ok {
			return m.refuse("E_INVALID DPUB could not parse timeout %s", args[1])
		}
		delay := int64(ms * uint64(time.Millisecond))
		if delay < 0 || delay > int64(m.lim.MaxReqTimeout) {
			return m.refuse("E_INVALID DPUB timeout %s out of range 0-%d", strconv.FormatUint(ms, 10),
				m.lim.MaxReqTimeout.Milliseconds())
		}
		suffix = fmt.Sprintf(" %d %d", int64(ms), delay)
	}
	size, err := m.number("E_BAD_MESSAGE " + name + " failed to read message body size")
	switch {
	case err != nil:
		return err
	case size <= 0:
		return m.refuse("E_BAD_MESSAGE %s invalid message body size %d", name, size)
	case int64(size) > m.lim.MaxMsgSize:
		return m.refuse("E_BAD_MESSAGE %s message too big %d > %d", name, size, m.lim.MaxMsgSize)
	}
	body, err := m.bytes(size, "E_BAD_MESSAGE "+name+" failed to read message body")
	if err != nil {
		return err
	}
	m.say("%s %s %q%s", name, args[0], body, suffix)
	return nil
}

func (m *model) mpub(args []string) error {
	if len(args) < 1 {
		return m.refuse("E_INVALID MPUB insufficient number of parameters")
	}
	if !modelName.MatchString(args[0]) {
		return m.refuse("E_BAD_TOPIC E_BAD_TOPIC MPUB topic name %q is not valid", args[0])
	}
	m.say("MPUB %s head", args[0])
	size, err := m.number("E_BAD_BODY MPUB failed to read body size")
	switch {
	case err != nil:
		return err
	case size <= 0:
		return m.refuse("E_BAD_BODY MPUB invalid body size %d", size)
	case int64(size) > m.lim.MaxBodySize:
		return m.refuse("E_BAD_BODY MPUB body too big %d > %d", size, m.lim.MaxBodySize)
	}
	count, err := m.number("E_BAD_BODY MPUB failed to read message count")
	if err != nil {
		return err
	}
	if count <= 0 || int64(count) > (m.lim.MaxBodySize-4)/5 {
		return m.refuse("E_BAD_BODY MPUB invalid message count %d", count)
	}
	var bodies []string
	for i := range count {
		size, err := m.number(fmt.Sprintf("E_BAD_MESSAGE MPUB failed to read message(%d) body size", i))
		switch {
		case err != nil:
			return err
		case size <= 0:
			return m.refuse("E_BAD_MESSAGE MPUB invalid message(%d) body size %d", i, size)
		case int64(size) > m.lim.MaxMsgSize:
			return m.refuse("E_BAD_MESSAGE MPUB message too big %d > %d", size, m.lim.MaxMsgSize)
		}
		body, err := m.bytes(size, "E_BAD_MESSAGE MPUB failed to read message body")
		if err != nil {
			return err
		}
		bodies = append(bodies, body)
	}
	m.say("MPUB %s %q", args[0], bodies)
	return nil
}
