package codec

import "encoding/binary"

// Eight hex digits are handled at once as the eight bytes of a word, first digit highest. The constants hold one value
// per byte.
const (
	eachByte   = 0x0101010101010101
	lowNibble  = 0x0f * eachByte
	highNibble = 0xf0 * eachByte
	digitZero  = '0' * eachByte
	letterStep = 'a' - '9' - 1 // from the code after '9' to the code of 'a'
)

// ParseID reads the 64-bit value of a message id: exactly 16 lower-case hex digits. Anything else gives false: such an
// id cannot be in flight, but it is a well-formed parameter of FIN, REQ and TOUCH as long as it has 16 bytes.
func ParseID(id []byte) (uint64, bool) {
	if len(id) != IDLen {
		return 0, false
	}
	high, okHigh := hexWord(binary.BigEndian.Uint64(id))
	low, okLow := hexWord(binary.BigEndian.Uint64(id[8:]))
	return high<<32 | low, okHigh && okLow
}

// AppendID appends id as 16 lower-case hex digits.
func AppendID(dst []byte, id uint64) []byte {
	dst = binary.BigEndian.AppendUint64(dst, hexDigits(id>>32))
	return binary.BigEndian.AppendUint64(dst, hexDigits(id&0xffffffff))
}

// hexWord turns eight hex digits into their 32-bit value.
func hexWord(text uint64) (uint64, bool) {
	// Bit 6 tells letters from digits; 'a' & 15 is 1, so letters get 9 more. Garbage gives at most 15 + 9: no carry
	// between bytes.
	v := text&lowNibble + text>>6&eachByte*9
	// A byte was a hex digit if its value is below 16 and writing that value gives the byte back.
	ok := v&highNibble == 0 && nibblesToText(v) == text
	v = (v | v>>4) & 0x00ff00ff00ff00ff
	v = (v | v>>8) & 0x0000ffff0000ffff
	v = (v | v>>16) & 0x00000000ffffffff
	return v, ok
}

// hexDigits turns a 32-bit value into its eight hex digits.
func hexDigits(v uint64) uint64 {
	v = (v | v<<16) & 0x0000ffff0000ffff
	v = (v | v<<8) & 0x00ff00ff00ff00ff
	v = (v | v<<4) & lowNibble
	return nibblesToText(v)
}

// nibblesToText writes one digit per byte of v, each of which is below 32.
func nibblesToText(v uint64) uint64 {
	letters := (v + (128-10)*eachByte) >> 7 & eachByte // 1 in the bytes that are 10 or more
	return v + digitZero + letters*letterStep
}
