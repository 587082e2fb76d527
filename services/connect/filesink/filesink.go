// Package filesink writes topics into files, for those who carry data away. A
// file gets its name when it is whole and on the disk, and what it holds is
// then the connector's position.
package filesink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// Connector writes to one folder.
type Connector struct {
	cfg       site.FileSink
	target    target
	size      int64 // bytes of a file
	every     time.Duration
	keepFiles int
	keepBytes int64
}

// New prepares the sink of an entry of the profile.
func New(cfg site.FileSink) (connect.Connector, error) { return newConnector(cfg, newTarget(&cfg)) }

func newConnector(cfg site.FileSink, target target) (*Connector, error) {
	c := &Connector{cfg: cfg, target: target, keepFiles: cfg.Keep.Files}
	var err error
	if c.size, err = site.ParseSize(cfg.Rotate.Size); err != nil {
		return nil, fmt.Errorf("rotate.size: %w", err)
	}
	if c.every, err = time.ParseDuration(cfg.Rotate.Every); err != nil {
		return nil, fmt.Errorf("rotate.every: %w", err)
	}
	if c.keepBytes, err = site.ParseSize(cfg.Keep.Size); err != nil {
		return nil, fmt.Errorf("keep.size: %w", err)
	}
	return c, nil
}

// lookEvery is how often it is looked whether a stick was plugged in, or
// whether there is room again.
const lookEvery = time.Second

// Run implements connect.Connector.
func (c *Connector) Run(ctx context.Context, box *connect.Box) error {
	w, err := c.open(ctx, box)
	if err != nil {
		return err
	}
	defer w.abandon()
	box.Up(w.detail())
	return box.Follow(ctx, c.cfg.Topics, w.from, w.take)
}

// open waits for the stick and puts in order what an earlier run has left.
func (c *Connector) open(ctx context.Context, box *connect.Box) (*writer, error) {
	fsys, err := c.target()
	for errors.Is(err, errAway) {
		box.Trouble(err)
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		fsys, err = c.target()
	}
	if err != nil {
		return nil, err
	}
	data, err := box.Position(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{Connector: c, box: box, fs: fsys, parts: map[place]*part{}, tables: map[string]*table{}}
	w.names = namer{template: c.cfg.File, ending: endings[c.cfg.Format], site: box.Site(), connector: c.cfg.Name}
	w.ours = w.names.matcher()
	if w.position, err = parsePosition(data); err != nil {
		return nil, err
	}
	return w, w.recover(ctx)
}

func (w *writer) from(topic string, partition int32) (int64, bool) {
	for _, m := range w.position.Partitions {
		if m.Topic == topic && m.Partition == partition {
			return m.Next, true
		}
	}
	return 0, false
}

// take writes records, and completes the files whose time has come.
func (w *writer) take(ctx context.Context, rs []*kgo.Record) error {
	if len(rs) > 0 {
		if err := w.waitForRoom(ctx); err != nil { // files may be large
			return err
		}
	}
	for _, r := range rs {
		if err := w.record(ctx, r); err != nil {
			return err
		}
	}
	for _, p := range w.parts {
		if time.Since(p.opened) >= w.every {
			if err := w.finish(ctx, p); err != nil {
				return err
			}
		}
	}
	if w.opened {
		if err := w.commit(ctx); err != nil {
			return err
		}
	}
	w.box.Up(w.detail())
	return nil
}

// waitForRoom completes what has begun and goes no further while the disk is
// full.
func (w *writer) waitForRoom(ctx context.Context) error {
	for {
		err := room(w.fs)
		if !errors.Is(err, errFull) {
			return err
		}
		for _, p := range w.parts {
			if err := w.finish(ctx, p); err != nil {
				return err
			}
		}
		w.box.Trouble(err)
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *writer) detail() string {
	rows := 0
	for _, p := range w.parts {
		rows += p.rows
	}
	s := fmt.Sprintf("%d files since the start, %d records in files that grow", w.files, rows)
	if w.newest != "" {
		s += ", newest " + w.newest
	}
	if w.removed > 0 {
		s += fmt.Sprintf(", %d old ones removed", w.removed)
	}
	return s
}
