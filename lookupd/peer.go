package lookupd

import (
	"encoding/binary"
	"fmt"
	"io"
)

// ReadReply reads one reply of the lookup protocol. One that claims a negative size, or more than limit bytes, is an error.
func ReadReply(r io.Reader, limit int64) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	size := int64(int32(binary.BigEndian.Uint32(prefix[:])))
	if size < 0 || size > limit {
		return nil, fmt.Errorf("response body size (%d) is greater than limit (%d)", size, limit)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return body, nil
}
