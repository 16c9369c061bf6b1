// Package metadata keeps nsqd.dat, the stock daemon's list of topics and channels. What decides here is the manifest of the log; the file is
// written so that tools and a stock nsqd find what they know, and read once, on the first start in a data path a stock nsqd has used.
package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Name of the file in the data path.
const Name = "nsqd.dat"

// Topic and Channel are entries of the file. Ephemeral ones do not belong there.
type Topic struct {
	Name     string    `json:"name"`
	Paused   bool      `json:"paused"`
	Channels []Channel `json:"channels"`
}

// Channel is one channel of a Topic.
type Channel struct {
	Name   string `json:"name"`
	Paused bool   `json:"paused"`
}

type document struct {
	Topics  []Topic `json:"topics"`
	Version string  `json:"version"`
}

// Path of the file in a data path.
func Path(dir string) string { return filepath.Join(dir, Name) }

// Read returns the topics of the file and the version of the program that wrote it, nothing if there is no file. Unknown keys are ignored. The
// error texts are the stock daemon's.
func Read(dir string) (topics []Topic, version string, err error) {
	path := Path(dir)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("failed to load metadata - failed to read metadata from %s - %w", path, err)
	}
	var doc document
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, "", fmt.Errorf("failed to load metadata - failed to parse metadata in %s - %w", path, err)
	}
	return doc.Topics, doc.Version, nil
}

// Write replaces the file in one step: whoever reads sees the old text or the new one, also after a power cut. version is what the file
// says of the program that wrote it.
func Write(dir, version string, topics []Topic) error {
	text, err := json.Marshal(document{Topics: topics, Version: version})
	if err != nil {
		return fmt.Errorf("failed to persist metadata - %w", err)
	}
	temporary := Path(dir) + ".tmp" // one name: what a kill leaves is overwritten by the next write
	if err := writeSynced(temporary, text); err != nil {
		return fmt.Errorf("failed to persist metadata - %w", errors.Join(err, removeIfThere(temporary)))
	}
	if err := os.Rename(temporary, Path(dir)); err != nil {
		return fmt.Errorf("failed to persist metadata - %w", errors.Join(err, removeIfThere(temporary)))
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("failed to persist metadata - %w", err)
	}
	return nil
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	if dir == "" {
		dir = "."
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
