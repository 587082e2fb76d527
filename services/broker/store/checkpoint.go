package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

const (
	checkpointKind    = "WAYSCKPT"
	checkpointVersion = 1
)

// checkpoint says up to where a log is known to be whole and durable, so that
// recovery reads only what lies behind it. Segments before Segment are sealed.
type checkpoint struct {
	Start     int64      `json:"start"`   // log start offset
	Segment   int64      `json:"segment"` // base of the segment the point lies in
	Pos       int64      `json:"pos"`     // position in it, in bytes
	Offset    int64      `json:"offset"`  // offset of the batch that begins there
	Epochs    epochs     `json:"epochs,omitempty"`
	Producers []producer `json:"producers,omitempty"` // at Offset
}

func checkpointName(dir string) string { return path.Join(dir, "checkpoint") }

// save writes the checkpoint for the log's end, which must be durable.
func (l *Log) save(start, seg, pos int64) error {
	return l.saveCheckpoint(checkpoint{
		Start: start, Segment: seg, Pos: pos, Offset: l.leo,
		Epochs: l.epochs.trim(start), Producers: l.prods.snapshot(),
	})
}

func (l *Log) saveCheckpoint(c checkpoint) error {
	if err := writeCheckpoint(l.fsys, l.dir, c); err != nil {
		return err
	}
	l.saved = c
	return nil
}

func writeCheckpoint(fsys vfs.FS, dir string, c checkpoint) error {
	body, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %v", err)
	}
	data := frame.Append(frame.Header(checkpointKind, checkpointVersion), body)
	return frame.WriteFile(fsys, checkpointName(dir), data)
}

// errNoCheckpoint: there is none, or it is damaged; the whole log is read.
var errNoCheckpoint = errors.New("no usable checkpoint")

func readCheckpoint(fsys vfs.FS, dir string) (checkpoint, error) {
	name := checkpointName(dir)
	b, err := frame.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return checkpoint{}, errNoCheckpoint
	}
	if err != nil {
		return checkpoint{}, fmt.Errorf("read %s: %v", name, err)
	}
	return parseCheckpoint(b)
}

func parseCheckpoint(b []byte) (checkpoint, error) {
	var c checkpoint
	if _, err := frame.CheckHeader(b, checkpointKind, checkpointVersion); errors.Is(err, frame.ErrNewer) {
		return c, fmt.Errorf("read checkpoint: %w", err)
	} else if err != nil {
		return c, errNoCheckpoint
	}
	body, _, err := frame.Next(b[frame.HeaderSize:])
	if err != nil || json.Unmarshal(body, &c) != nil {
		return c, errNoCheckpoint
	}
	if c.Segment < 0 || c.Pos < 0 || c.Offset < c.Segment || c.Start < 0 || c.Start > c.Offset {
		return checkpoint{}, errNoCheckpoint
	}
	return c, nil
}
