package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

const (
	keepName    = "age"
	keepKind    = "WAYSAGE "
	keepVersion = 1
)

// kept is what housekeeping remembers across restarts.
type kept struct {
	// Age is for how long, in ms, brokers have been running on this data
	// directory. Records and tombstones grow old by it, and by nothing that
	// can be set: not by the wall clock, nor by what producers write.
	Age int64 `json:"age"`
	// Scrub is where the reading of everything stands.
	Scrub scrubbing `json:"scrub,omitzero"`
}

// scrubbing is a place between two segments of one partition.
type scrubbing struct {
	Began     int64  `json:"began"` // age at which this round began
	Done      bool   `json:"done,omitempty"`
	Topic     string `json:"topic,omitempty"`
	Partition int32  `json:"partition,omitempty"`
	Offset    int64  `json:"offset,omitempty"`
}

// age is the clock of a data directory. When its file is lost it begins at 0
// again, and every log goes on from what its own checkpoint says.
type age struct {
	fsys    vfs.FS
	started time.Time // with its monotonic reading

	mu   sync.Mutex
	kept kept // Age is as of started
}

func openAge(fsys vfs.FS) (*age, error) {
	a := &age{fsys: fsys, started: time.Now()}
	b, err := frame.ReadFile(fsys, keepName)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %v", keepName, err)
	}
	if a.kept, err = parseKept(b); errors.Is(err, frame.ErrNewer) {
		return nil, fmt.Errorf("read %s: %w", keepName, err)
	}
	return a, nil
}

// parseKept returns the zero value for whatever is damaged.
func parseKept(b []byte) (k kept, err error) {
	if _, err := frame.CheckHeader(b, keepKind, keepVersion); err != nil {
		return kept{}, err
	}
	body, _, err := frame.Next(b[frame.HeaderSize:])
	if err != nil {
		return kept{}, err
	}
	if err := json.Unmarshal(body, &k); err != nil || k.Age < 0 || k.Age > 1<<55 || k.Scrub.Offset < 0 {
		return kept{}, errors.New("damaged")
	}
	return k, nil
}

// now is the age of the data directory, in ms.
func (a *age) now() int64 { return a.kept.Age + time.Since(a.started).Milliseconds() }

func (a *age) scrub() scrubbing {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kept.Scrub
}

func (a *age) setScrub(s scrubbing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept.Scrub = s
}

// save makes the age durable; what is not is counted again after a crash.
func (a *age) save() error {
	k := kept{Age: a.now(), Scrub: a.scrub()}
	body, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode %s: %v", keepName, err)
	}
	return frame.WriteFile(a.fsys, keepName, frame.Append(frame.Header(keepKind, keepVersion), body))
}
