package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
)

// The lookup protocol V1, spoken between nsqd and nsqlookupd:
//
//	"  V1"                                    client, once, first
//	NAME[ topic[ channel]]\n                  client: PING IDENTIFY REGISTER UNREGISTER
//	[4 size][JSON]                            client: body of IDENTIFY, straight behind its line
//	[4 size][bytes]                           server: every reply; no frame type, no newline
//
// A refusal is a reply like any other, and the server closes behind it.

// LookupMagic opens a connection of the lookup protocol.
const LookupMagic = "  V1"

// Commands of the lookup protocol.
const (
	LookupPing       = "PING"
	LookupIdentify   = "IDENTIFY"
	LookupRegister   = "REGISTER"
	LookupUnregister = "UNREGISTER"
)

// LookupCommand is one line of the lookup protocol. Params are the words behind the name, empty ones included.
type LookupCommand struct {
	Name   string
	Params []string
}

// ParseLookupLine cuts a line into words. White space around it does not count, every single space inside does.
func ParseLookupLine(line []byte) LookupCommand {
	words := strings.Split(string(bytes.TrimSpace(line)), " ")
	return LookupCommand{Name: words[0], Params: words[1:]}
}

// Target reads the topic and channel of a REGISTER or UNREGISTER; channel is empty when there is none. The error's text is the reply.
func (c LookupCommand) Target() (topic, channel string, err error) {
	if len(c.Params) == 0 {
		return "", "", errors.New("E_INVALID " + c.Name + " insufficient number of params")
	}
	topic = c.Params[0]
	if len(c.Params) > 1 {
		channel = c.Params[1]
	}
	if !ValidTopic([]byte(topic)) {
		return "", "", errors.New("E_BAD_TOPIC " + c.Name + " topic name '" + topic + "' is not valid")
	}
	if channel != "" && !ValidChannel([]byte(channel)) {
		return "", "", errors.New("E_BAD_CHANNEL " + c.Name + " channel name '" + channel + "' is not valid")
	}
	return topic, channel, nil
}

// AppendLookupCommand appends the line of a command; empty parameters are left out.
func AppendLookupCommand(dst []byte, name string, params ...string) []byte {
	dst = append(dst, name...)
	for _, p := range params {
		if p != "" {
			dst = append(dst, ' ')
			dst = append(dst, p...)
		}
	}
	return append(dst, '\n')
}

// AppendLookupBody appends size and bytes: the form of the server's replies, and of the client's IDENTIFY body.
func AppendLookupBody(dst, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(body))), body...)
}
