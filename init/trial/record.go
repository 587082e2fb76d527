// Package trial is what init remembers of versions being tried: which is to
// be tried, what came of its boots, which failed and why, and how far back the
// box may ever go. What boots is the loader's to say (init/slots); this is the
// story that goes with it, and decides nothing that the loader's words deny.
package trial

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"time"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/vfs"
)

// Release names a version.
type Release struct {
	Version  string `json:"version"`
	Counter  uint64 `json:"counter"`
	RootHash string `json:"root_hash"` // hex
}

// Record is the state on disk: docs/formats/update-state.md.
type Record struct {
	Committed Release `json:"committed"` // version that ran last without a boot counter
	Floor     uint64  `json:"floor"`     // lowest counter that needs no permission
	// Level is the format level of Committed: what it can read.
	Level   int                `json:"format_level"`
	Pending *Pending           `json:"pending,omitempty"`
	Last    *manifest.Outcome  `json:"last,omitempty"`
	Failed  []manifest.Outcome `json:"failed,omitempty"` // oldest first
	// Loader is the root hash of the release whose boot loader is still to be
	// installed.
	Loader string `json:"boot_loader,omitempty"`
}

// Pending is a version to be tried, or on trial.
type Pending struct {
	manifest.Activate
	From      Release        `json:"from"` // version that ran when it was asked for
	Asked     time.Time      `json:"asked"`
	Boots     []Trace        `json:"boots,omitempty"` // those that reached init, oldest first
	GivenBack int            `json:"given_back,omitempty"`
	Verdict   *manifest.Fail `json:"verdict,omitempty"` // it was failed; the loader may not know yet
}

// Trace is what is known of one boot of a trial.
type Trace struct {
	Tries      int      `json:"tries"`   // used, with this one
	Reached    string   `json:"reached"` // last step that was done
	Failure    string   `json:"failure,omitempty"`
	ResetCause string   `json:"reset_cause,omitempty"` // how it ended
	Log        []string `json:"log,omitempty"`         // its last lines
}

// Bounds of what is kept.
const (
	maxFailed = 8
	maxTraces = 8
	maxLines  = 200 // of a log
	maxLine   = 400 // bytes
	maxRecord = 2 << 20
)

const (
	dir        = "update"
	file       = dir + "/state"
	damaged    = dir + "/state.damaged"
	version    = 1
	headerSize = 16
)

var (
	magic      = [4]byte{'W', 'U', 'P', 'D'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// encode puts the header before the JSON: magic, version, three zeros, length,
// CRC-32C of the JSON; little endian.
func encode(r *Record) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if len(text) > maxRecord {
		return nil, fmt.Errorf("%d bytes, the most is %d", len(text), maxRecord)
	}
	b := make([]byte, headerSize, headerSize+len(text))
	copy(b, magic[:])
	b[4] = version
	binary.LittleEndian.PutUint32(b[8:], uint32(len(text)))
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(text, castagnoli))
	return append(b, text...), nil
}

func decode(b []byte) (*Record, error) {
	switch {
	case len(b) < headerSize || [4]byte(b) != magic:
		return nil, errors.New("is no update state")
	case b[4] != version:
		return nil, fmt.Errorf("has version %d, this release knows %d", b[4], version)
	case binary.LittleEndian.Uint32(b[8:]) != uint32(len(b)-headerSize):
		return nil, errors.New("has a wrong length")
	case binary.LittleEndian.Uint32(b[12:]) != crc32.Checksum(b[headerSize:], castagnoli):
		return nil, errors.New("has a wrong checksum")
	}
	r := &Record{}
	if err := json.Unmarshal(b[headerSize:], r); err != nil {
		return nil, fmt.Errorf("is not readable: %v", err)
	}
	return r, nil
}

// load reads the record; an empty one if there is none. A damaged one is set
// aside, and what was wrong is the problem.
func load(fsys vfs.FS) (r *Record, problem error) {
	b, err := vfs.ReadWhole(fsys, file, headerSize+maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return &Record{}, nil
	}
	if err == nil {
		if r, err = decode(b); err == nil {
			return r, nil
		}
		err = fmt.Errorf("/state/%s %w", file, err)
	}
	err = fmt.Errorf("%w: what failed before is forgotten", err)
	if e := errors.Join(fsys.Rename(file, damaged), fsys.SyncDir(dir)); e != nil {
		err = fmt.Errorf("%v; set it aside: %v", err, e)
	}
	return &Record{}, err
}

// save replaces the record: a power cut leaves the old or the new one.
func save(fsys vfs.FS, r *Record) error {
	b, err := encode(r)
	if err != nil {
		return fmt.Errorf("keep the update state: %w", err)
	}
	if err := vfs.WriteWhole(fsys, file, b); err != nil {
		return fmt.Errorf("keep the update state: %w", err)
	}
	return nil
}
