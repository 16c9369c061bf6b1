package mmapq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

var errManifestHeader = errors.New("header is damaged")

// manifestFound is what a manifest says.
type manifestFound struct {
	recs []record
	torn int64 // bytes behind the last valid record
	lost int64 // bytes in front of it that are no valid record: damage, not a torn tail

	salt uint64
	next uint64 // number of the record that would follow
	end  int64  // where it would stand
}

// readManifest reads the whole file.
func readManifest(d Disk) (found manifestFound, raw []byte, err error) {
	f, err := d.OpenFile(ManifestName, false)
	if err != nil {
		return found, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return found, nil, err
	}
	raw = make([]byte, size)
	if _, err := f.ReadAt(raw, 0); err != nil && !errors.Is(err, io.EOF) {
		return found, nil, err
	}
	found, err = parseManifest(raw)
	return found, raw, err
}

func parseManifest(buf []byte) (found manifestFound, err error) {
	le := binary.LittleEndian
	if len(buf) < manifestHeader {
		return found, fmt.Errorf("%s: %w", ManifestName, errManifestHeader)
	}
	salt := le.Uint64(buf[20:])
	switch {
	case [8]byte(buf) == manifestMagic && crc32.Checksum(buf[:28], castagnoli) == le.Uint32(buf[28:]):
		if err := checkFormat(le.Uint16(buf[8:]), le.Uint32(buf[12:]), manifestFeatures); err != nil {
			return found, fmt.Errorf("%s: %w", ManifestName, err)
		}
	default:
		var ok bool
		if salt, ok = guessSalt(buf[manifestHeader:], salt); !ok {
			return found, fmt.Errorf("%s: %w", ManifestName, errManifestHeader)
		}
		found.lost = manifestHeader
	}
	p, number := buf[manifestHeader:], uint64(0)
	for {
		r, n := parseRecord(p, salt, number)
		if n == 0 {
			skip, next := resumeManifest(p, salt, number)
			if skip == 0 {
				break
			}
			found.lost += int64(skip)
			p, number = p[skip:], next
			continue
		}
		found.recs = append(found.recs, r)
		p, number = p[n:], number+1
	}
	found.torn = int64(len(p))
	found.salt, found.next, found.end = salt, number, int64(len(buf)-len(p))
	return found, nil
}

// guessSalt finds the salt under which a record passes, where the header does not: as it stands there, or with one bit turned.
func guessSalt(records []byte, salt uint64) (uint64, bool) {
	for bit := -1; bit < 64; bit++ {
		try := salt
		if bit >= 0 {
			try ^= 1 << bit
		}
		if _, n := parseRecord(records, try, 0); n > 0 {
			return try, true
		}
		if skip, _ := resumeManifest(records, try, 0); skip > 0 {
			return try, true
		}
	}
	return 0, false
}

// parseRecord returns the record at the start of p and its length, 0 if there is no valid one.
func parseRecord(p []byte, salt, number uint64) (record, int) {
	if len(p) < 8 {
		return record{}, 0
	}
	n := int(binary.LittleEndian.Uint32(p))
	if n < recordFixed || n > recordMax || n > len(p)-8 {
		return record{}, 0
	}
	if manifestSum(salt, number, p[8:8+n]) != binary.LittleEndian.Uint32(p[4:]) {
		return record{}, 0
	}
	r, ok := decodeRecord(p[8 : 8+n])
	if !ok {
		return record{}, 0
	}
	return r, 8 + n
}

const resumeWithin = 16 << 10

// resumeManifest looks for a valid record behind one that is not: then that one is damage, and what stands behind it still counts. It returns
// how many bytes to skip and the number of the record there, 0 when this is the end.
func resumeManifest(p []byte, salt, number uint64) (skip int, next uint64) {
	for skip = 1; skip <= min(len(p), resumeWithin); skip++ {
		most := uint64(skip/(8+recordFixed)) + 1 // records that fit into what is skipped, and the damaged one
		for next = number; next <= number+most; next++ {
			if _, n := parseRecord(p[skip:], salt, next); n > 0 {
				return skip, next
			}
		}
	}
	return 0, 0
}
