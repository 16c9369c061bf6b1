package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files of a stock nsqd: QUEUE.diskqueue.NNNNNN.dat hold messages, QUEUE.diskqueue.meta.dat begins with a line that counts them. A queue is
// TOPIC or TOPIC:CHANNEL.
const (
	stockInfix      = ".diskqueue."
	stockMetaSuffix = ".diskqueue.meta.dat"
)

// StockQueues is what a stock nsqd left in a data path.
type StockQueues struct {
	Queues   int   // distinct queues that have any file
	Messages int64 // as their meta files count them
	Unknown  int   // queues whose count is missing or older than their data
}

// FindStockQueues looks for queue files of a stock nsqd in dir. Files it set aside as damaged (.bad) are not queues.
func FindStockQueues(dir string) (StockQueues, error) {
	var found StockQueues
	names, err := os.ReadDir(dir)
	if err != nil {
		return found, fmt.Errorf("failed to look for queues of a stock nsqd: %w", err)
	}
	queues := make(map[string]bool)
	for _, entry := range names {
		queue, rest, ok := strings.Cut(entry.Name(), stockInfix)
		if ok && queue != "" && strings.HasSuffix(rest, ".dat") {
			queues[queue] = true
		}
	}
	for queue := range queues {
		found.Queues++
		depth, sure, err := stockDepth(dir, queue)
		if err != nil {
			return found, fmt.Errorf("failed to look for queues of a stock nsqd: %w", err)
		}
		if !sure {
			found.Unknown++
		}
		found.Messages += max(depth, 0)
	}
	return found, nil
}

// stockDepth reads the count from a meta file: three lines, depth, "readFile,readPosition", "writeFile,writePosition". It is not sure of it
// when there is no such file, or when the process did not stop cleanly: then the count is negative or the last segment is longer than its
// write position.
func stockDepth(dir, queue string) (depth int64, sure bool, err error) {
	meta, err := os.ReadFile(filepath.Join(dir, queue+stockMetaSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	var readFile, readPos, writeFile, writePos int64
	if n, _ := fmt.Sscanf(string(meta), "%d\n%d,%d\n%d,%d\n", &depth, &readFile, &readPos, &writeFile, &writePos); n != 5 {
		return 0, false, nil // not three lines of numbers: the count is as good as missing
	}
	segment, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%s%s%06d.dat", queue, stockInfix, writeFile)))
	if errors.Is(err, fs.ErrNotExist) {
		return depth, depth >= 0, nil // a queue that was never written, or emptied, has no segment
	}
	if err != nil {
		return 0, false, err
	}
	return depth, depth >= 0 && segment.Size() <= writePos, nil
}

// RefuseStockQueues returns the reason not to start in dir: queues of a stock nsqd wait there and manifest, the file this program
// writes first, does not exist, so nobody has decided yet what becomes of their messages. Empty queues are no reason.
func RefuseStockQueues(dir, manifest string) error {
	_, err := os.Stat(filepath.Join(dir, manifest))
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("failed to look for queues of a stock nsqd: %w", err)
	}
	found, err := FindStockQueues(dir)
	if err != nil {
		return err
	}
	if found.Messages == 0 && found.Unknown == 0 {
		return nil
	}
	return fmt.Errorf("data-path %s holds %s of a stock nsqd, which this version does not import: drain them with the stock nsqd first, "+
		"or start with --ignore-stock-queues to leave them where they are", dir, found)
}

// String says how much waits, in the words of the refusal.
func (q StockQueues) String() string {
	text := fmt.Sprintf("%s in %s", plural(q.Messages, "message"), plural(int64(q.Queues), "queue"))
	if q.Unknown > 0 {
		text += fmt.Sprintf(", and an unknown number more in %d of them, whose meta file is missing or out of date", q.Unknown)
	}
	return text
}

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
