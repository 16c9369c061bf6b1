package codec

const ephemeralSuffix = "#ephemeral"

// ValidTopic tells whether name may name a topic: 1 to NameMax bytes in all, one or more of . a-z A-Z 0-9 _ -, then
// optionally the literal suffix #ephemeral.
func ValidTopic(name []byte) bool { return validName(name) }

// ValidChannel tells whether name may name a channel. The rule is that of topics.
func ValidChannel(name []byte) bool { return validName(name) }

// IsEphemeral tells whether a valid name asks for a topic or channel that lives in memory only and goes with its last
// user. Of an invalid name it only says how it ends.
func IsEphemeral(name []byte) bool {
	cut := len(name) - len(ephemeralSuffix)
	return cut >= 0 && string(name[cut:]) == ephemeralSuffix
}

func validName(name []byte) bool {
	if len(name) == 0 || len(name) > NameMax {
		return false
	}
	for i, c := range name {
		if !nameByte[c] {
			return i > 0 && string(name[i:]) == ephemeralSuffix
		}
	}
	return true
}

// nameByte marks the bytes a name is made of, before its suffix.
var nameByte = func() (t [256]bool) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	t['.'], t['_'], t['-'] = true, true, true
	return t
}()
