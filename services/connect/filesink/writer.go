package filesink

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// What grows at once.
const (
	mostParts   = 64
	mostParquet = 16      // each holds a group of rows in memory,
	mostColumns = 2000    // and the library some 20 kB for each column
	mostDead    = 256     // dead letters that wait for their file,
	deadBytes   = 512_000 // and their bytes
)

// writer is one run of a Connector.
type writer struct {
	*Connector
	box      *connect.Box
	fs       vfs.FS
	names    namer
	ours     *regexp.Regexp
	position *position
	opened   bool // a mark says so and is not committed
	parts    map[place]*part
	tables   map[string]*table // by topic
	number   int               // of the last part

	files   int // completed
	removed int
	newest  string
}

// folder is where files grow.
func (w *writer) folder() string { return ".wayside/" + w.cfg.Name }

// record writes one to the file of its partition.
func (w *writer) record(ctx context.Context, r *kgo.Record) error {
	at := place{r.Topic, r.Partition}
	t := w.tables[r.Topic]
	if t == nil {
		t = newTable(&w.cfg)
		w.tables[r.Topic] = t
	}
	fields, bad := t.parse(r)
	if bad == nil {
		bad = t.learn(fields)
	}
	p := w.parts[at]
	// Other columns are another file, and so is a topic that was made anew.
	if p != nil && (p.version != t.version || r.Offset < p.next) {
		if err := w.finish(ctx, p); err != nil {
			return err
		}
		p = nil
	}
	if p == nil {
		var err error
		if p, err = w.begin(ctx, at, r, t); err != nil {
			return err
		}
	}
	p.next = r.Offset + 1
	if bad != nil {
		p.refuse(r, bad)
	} else if err := p.add(r, fields); err != nil {
		return err
	}
	if p.enc.size() >= w.size || len(p.dead) >= mostDead || p.deadBytes >= deadBytes {
		return w.finish(ctx, p)
	}
	return nil
}

// begin makes the file of a partition, from a record on.
func (w *writer) begin(ctx context.Context, at place, r *kgo.Record, t *table) (*part, error) {
	for w.crowded(len(t.columns)) {
		if err := w.finish(ctx, w.oldest()); err != nil {
			return nil, err
		}
	}
	if err := w.waitForRoom(ctx); err != nil {
		return nil, err
	}
	w.number++
	p, err := newPart(&w.cfg, w.fs, fmt.Sprintf("%s/%d.part", w.folder(), w.number), w.names.name(r), slices.Clone(t.columns))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	m := w.position.of(at, r.Offset)
	p.at, p.version, p.opened = at, t.version, m.opened(now)
	if m.Opened != p.opened.UnixMilli() {
		m.Opened, w.opened = p.opened.UnixMilli(), true
	}
	w.parts[at] = p
	return p, nil
}

// crowded says whether there is no place for a file of so many columns.
func (w *writer) crowded(columns int) bool {
	if w.cfg.Format != site.SinkParquet {
		return len(w.parts) >= mostParts
	}
	for _, p := range w.parts {
		columns += len(p.columns)
	}
	return len(w.parts) >= mostParquet || len(w.parts) > 0 && columns > mostColumns
}

func (w *writer) oldest() *part {
	var first *part
	for _, p := range w.parts {
		if first == nil || p.opened.Before(first.opened) {
			first = p
		}
	}
	return first
}

func (w *writer) commit(ctx context.Context, dead ...connect.Record) error {
	data, err := w.position.marshal()
	if err != nil {
		return err
	}
	w.opened = false
	return w.box.Commit(ctx, data, dead...)
}

func (w *writer) abandon() {
	for _, p := range w.parts {
		p.abandon()
	}
}
