package mmapq

import (
	"errors"
	"fmt"
	"math/bits"
)

// The format is frozen: a newer version reads what an older one wrote, an older one refuses what it cannot read with one line that names the file
// and the reason. What a newer version adds is one of
//
//   - a compatible feature: whoever does not know its bit may read and write the file as if it were not there;
//   - an incompatible feature: whoever does not know its bit refuses the file. A bit is set when the feature is first used, not before;
//   - a format version, for what no bit can say.
//
// A segment says for itself what it needs. The manifest speaks for itself and for the files that have no header: channel table, channel states,
// delays. Whoever changes one of these sets a bit in the manifest, which is written anew at every start before any of them is touched; reserved
// bytes in them are zero. A manifest record of an unknown kind refuses too. The directory in testdata/golden-v1 is what version 1 writes, and is
// never written again: it has to be readable for ever.
const (
	formatVersion = 1

	// Known incompatible features.
	segmentFeatures  = featureCompacted
	manifestFeatures = 0
)

// ErrNewerFormat is reported for files that a newer version wrote in a way this one cannot read.
var ErrNewerFormat = errors.New("written by a newer version of nsqloop in a format this one cannot read")

// checkFormat tells why a file with this version and these incompatible features cannot be read, or nil. Callers name the file.
func checkFormat(version uint16, incompatible, known uint32) error {
	if version > formatVersion {
		return fmt.Errorf("format version %d, the newest known is %d: %w", version, formatVersion, ErrNewerFormat)
	}
	if unknown := incompatible &^ known; unknown != 0 {
		return fmt.Errorf("incompatible feature bit %d: %w", bits.TrailingZeros32(unknown), ErrNewerFormat)
	}
	return nil
}
