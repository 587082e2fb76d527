package filesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
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

// recover gives a file its name that an earlier run has completed, and clears
// what was not complete: those records come again.
func (w *writer) recover(ctx context.Context) error {
	if err := w.makeFolder(w.folder()); err != nil {
		return err
	}
	if e := w.position.Pending; e != nil {
		there, err := w.settle(e)
		if err != nil {
			return fmt.Errorf("complete %s: %w", e.Name, err)
		}
		if there {
			w.position.done(e)
		} else {
			w.box.Log().Warn("a file that was complete is not on the disk, it is written again", "file", e.Name)
			w.position.Pending = nil
		}
		if err := w.commit(ctx); err != nil {
			return err
		}
	}
	left, err := w.fs.ReadDir(w.folder())
	if err != nil {
		return fmt.Errorf("list %s: %w", w.folder(), err)
	}
	for _, e := range left {
		if err := w.fs.Remove(path.Join(w.folder(), e.Name())); err != nil {
			return fmt.Errorf("clear %s: %w", w.folder(), err)
		}
	}
	return nil
}

// settle says whether a file has its name now. One of another length under
// either name is none of ours: another stick was plugged in.
func (w *writer) settle(e *ending) (there bool, err error) {
	part, err := w.length(e.Part)
	if err != nil {
		return false, err
	}
	if part == e.Size {
		return true, w.rename(e)
	}
	named, err := w.length(e.Name)
	return named == e.Size, err
}

// length is a file's size in bytes, -1 where there is none.
func (w *writer) length(name string) (int64, error) {
	f, err := w.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Size()
}

// makeFolder makes one that a power cut does not take away.
func (w *writer) makeFolder(dir string) error {
	err := w.fs.MkdirAll(dir)
	for ; err == nil && dir != "."; dir = path.Dir(dir) {
		err = w.fs.SyncDir(path.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("make folder %s: %w", dir, err)
	}
	return nil
}

// rename is durable on return. On FAT a renamed file has a new entry, which says
// that it is empty until the file itself is synced; the old entry goes first, or
// two of them would have the same content.
func (w *writer) rename(e *ending) error {
	if err := w.fs.Rename(e.Part, e.Name); err != nil {
		return err
	}
	if err := w.fs.SyncDir(path.Dir(e.Part)); err != nil {
		return err
	}
	f, err := w.fs.Open(e.Name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), w.fs.SyncDir(path.Dir(e.Name)))
}

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

// finish completes a file: it is on the disk, then the position says that it
// gets its name, then it gets it, then the position is behind its records. A
// power cut between any two of these is made good by recover.
func (w *writer) finish(ctx context.Context, p *part) error {
	delete(w.parts, p.at)
	if err := p.finish(); err != nil {
		return err
	}
	e := &ending{Topic: p.at.topic, Partition: p.at.partition, Next: p.next, Part: p.path, Name: p.name, Size: p.off}
	if p.rows == 0 {
		w.position.done(e)
		return errors.Join(w.commit(ctx, p.dead...), w.fs.Remove(p.path))
	}
	if err := w.place(e); err != nil {
		return err
	}
	w.position.Pending = e
	if err := w.commit(ctx, p.dead...); err != nil {
		return err
	}
	if err := w.rename(e); err != nil {
		return fmt.Errorf("complete %s: %w", e.Name, err)
	}
	w.position.done(e)
	if err := w.commit(ctx); err != nil {
		return err
	}
	w.box.Count(p.rows, p.off)
	w.files, w.newest = w.files+1, e.Name
	return w.prune(e.Name)
}

// place has all in place for a file to get a name that no other has.
func (w *writer) place(e *ending) error {
	wanted := e.Name
	for try := 1; ; try++ {
		n, err := w.length(e.Name)
		if err != nil {
			return fmt.Errorf("look for %s: %w", e.Name, err)
		}
		if n < 0 {
			break
		}
		e.Name = w.names.again(wanted, try)
	}
	if err := w.makeFolder(path.Dir(e.Name)); err != nil {
		return err
	}
	if err := w.fs.SyncDir(path.Dir(e.Part)); err != nil {
		return fmt.Errorf("complete %s: %w", e.Name, err)
	}
	return nil
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
