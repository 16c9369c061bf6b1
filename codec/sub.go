package codec

// SUB <topic> <channel>\n

func lineSub(args params, pol Policy, cmd *Command) *Error {
	if pol.State != StateInit {
		return errState(KindSub)
	}
	if pol.HeartbeatsOff {
		return errSubNoHeartbeats
	}
	topic, _ := args.next()
	channel, ok := args.next()
	if !ok {
		return invalid("SUB insufficient number of parameters")
	}
	if !ValidTopic(topic) {
		return fatal(CodeBadTopic, "SUB topic name "+quoted(topic)+" is not valid")
	}
	if !ValidChannel(channel) {
		return fatal(CodeBadChannel, "SUB channel name "+quoted(channel)+" is not valid")
	}
	cmd.Kind, cmd.Topic, cmd.Channel = KindSub, topic, channel
	return nil
}

var errSubNoHeartbeats = invalid("cannot SUB with heartbeats disabled")

// SubFailed is the refusal of a SUB by the broker: "exiting", "to deleted topic/channel", or the disk's error.
func SubFailed(reason string) *Error { return fatal(CodeSubFailed, "SUB failed "+reason) }

// AppendSub appends a SUB.
func AppendSub(dst []byte, topic, channel string) []byte {
	dst = append(append(append(dst, "SUB "...), topic...), ' ')
	return append(append(dst, channel...), '\n')
}
