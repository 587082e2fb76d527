package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

const (
	checkpointKind    = "WAYSCKPT"
	checkpointVersion = 2 // newest known
	// plainVersion is written as long as a log has never seen a transaction, so
	// that an older release can still open it.
	plainVersion = 1
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

	Transactional bool  `json:"txn,omitempty"`      // there are or were transactional batches
	Aborted       int   `json:"aborted,omitempty"`  // entries of Segment's transaction index at Pos
	MaxMs         int64 `json:"maxMs,omitempty"`    // largest timestamp of Segment up to Pos; 0 is not known
	Age           int64 `json:"age,omitempty"`      // Log.age, which producers' t are measured by
	AppendMs      int64 `json:"appendMs,omitempty"` // newest log append time
	Kept          *kept `json:"kept,omitempty"`     // nil in memory, and from older releases

	aborted []AbortedTxn // the entries
}

func checkpointName(dir string) string { return path.Join(dir, "checkpoint") }

// point is the checkpoint for the log's end, which lies at position pos of
// segment seg.
func (l *Log) point(start, seg, pos int64) checkpoint {
	c := checkpoint{
		Start: start, Segment: seg, Pos: pos, Offset: l.leo,
		Epochs: l.epochs.trim(start), Producers: l.prods.snapshot(),
		Transactional: l.transactional, Age: l.age, AppendMs: l.appendMs,
	}
	if pos > 0 {
		c.Aborted, c.MaxMs = len(l.act.aborted), max(0, l.act.maxMs)
	}
	return c
}

// restore takes the state that the checkpoint holds. Without the transaction
// index that belongs to it the whole log is read.
func (l *Log) restore(segs []segment) {
	if err := l.loadAborted(); err != nil && len(segs) > 0 {
		l.opts.Log.Error("transaction index does not match the checkpoint; reading the whole log", "dir", l.dir, "err", err)
		l.saved = checkpoint{
			Start: l.saved.Start, Segment: segs[0].base, Offset: segs[0].base,
			Transactional: true, Age: l.saved.Age, AppendMs: l.saved.AppendMs,
		}
	}
	l.start, l.epochs = l.saved.Start, slices.Clone(l.saved.Epochs)
	for _, p := range l.saved.Producers {
		l.prods[p.ID] = &p
	}
	l.transactional, l.appendMs = l.saved.Transactional, l.saved.AppendMs
	l.startAge()
	l.restoreTxns()
}

func encodeCheckpoint(c checkpoint) ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode checkpoint: %v", err)
	}
	version := byte(plainVersion)
	if c.Transactional {
		version = checkpointVersion
	}
	return frame.Append(frame.Header(checkpointKind, version), body), nil
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

// NotedEpoch is the newest leader epoch that a log's checkpoint knows of; 0 when
// there is none. Batches behind the checkpoint may have newer ones.
func NotedEpoch(fsys vfs.FS, dir string) int32 {
	c, err := readCheckpoint(fsys, dir)
	if err != nil || len(c.Epochs) == 0 {
		return 0
	}
	return c.Epochs[len(c.Epochs)-1].Epoch
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
	if c.Segment < 0 || c.Pos < 0 || c.Offset < c.Segment || c.Start < 0 || c.Start > c.Offset || c.Aborted < 0 {
		return checkpoint{}, errNoCheckpoint
	}
	for _, p := range c.Producers {
		if p.ID < 0 || p.Epoch < 0 || len(p.Batches) > window || (p.Txn != nil && (*p.Txn < 0 || *p.Txn >= c.Offset)) {
			return checkpoint{}, errNoCheckpoint
		}
	}
	return c, nil
}
