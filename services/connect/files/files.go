// Package files reads the files of a folder, on the box or on an FTP or SFTP
// server, as records. How far each was read is committed together with what
// was read.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

const (
	// batchBytes is about how much is read for one commit, and the longest
	// record that there is.
	batchBytes = 512 << 10
	// maxFiles is how many files a position can remember.
	maxFiles = 4000
)

// Connector reads one folder.
type Connector struct {
	cfg           site.Files
	every, settle time.Duration
	split         splitter
}

// New prepares the reader of an entry of the profile.
func New(cfg site.Files) (connect.Connector, error) {
	c := &Connector{cfg: cfg}
	var err error
	if c.every, err = time.ParseDuration(cfg.Every); err != nil {
		return nil, fmt.Errorf("every: %w", err)
	}
	if c.settle, err = time.ParseDuration(cfg.Settle); err != nil {
		return nil, fmt.Errorf("settle: %w", err)
	}
	if c.split, err = newSplitter(cfg); err != nil {
		return nil, err
	}
	return c, nil
}

// Run implements connect.Connector.
func (c *Connector) Run(ctx context.Context, box *connect.Box) error {
	r := &reader{Connector: c, box: box, grown: map[string]growth{}}
	data, err := box.Position(ctx)
	if err != nil {
		return err
	}
	if r.position, err = parsePosition(data); err != nil {
		return err
	}
	t := time.NewTicker(c.every)
	defer t.Stop()
	for {
		if err := r.scan(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// reader is one run of a Connector.
type reader struct {
	*Connector
	box      *connect.Box
	position *position
	grown    map[string]growth
	troubled bool
	read     int64 // records
}

// growth is when a file was last seen to change.
type growth struct {
	size int64
	at   time.Time
}

// scan looks at the folder once. Servers are dialled each time: one that is
// asked each minute has no use for an idle connection in between.
func (r *reader) scan(ctx context.Context) error {
	st, err := openStore(ctx, r.cfg, r.box)
	if err != nil {
		return err
	}
	defer st.Close()
	all, err := st.list()
	if err != nil {
		return fmt.Errorf("list %s: %w", r.cfg.Folder, err)
	}
	all = slices.DeleteFunc(all, func(f file) bool {
		ok, _ := path.Match(r.cfg.Match, f.name)
		return !ok
	})
	if len(all) > maxFiles {
		return fmt.Errorf("%s holds %d files, more than the %d that can be remembered: have them moved or deleted (after)", r.cfg.Folder, len(all), maxFiles)
	}
	// Oldest first: what was rotated away is read before what came after it.
	slices.SortFunc(all, func(a, b file) int {
		if d := a.changed.Compare(b.changed); d != 0 {
			return d
		}
		return strings.Compare(a.name, b.name)
	})
	r.note(all)
	r.troubled = false
	marks, err := r.position.match(st, all)
	if err != nil {
		return err
	}
	if r.position.forgot { // kept, or a restart would take the next file of that name for the one that went
		data, err := r.position.marshal()
		if err == nil {
			err = r.box.Commit(ctx, data)
		}
		if err != nil {
			return err
		}
	}
	for _, f := range all {
		if err := r.take(ctx, st, f, marks[f.name]); err != nil {
			return err
		}
	}
	if !r.troubled {
		r.box.Up(fmt.Sprintf("%d files, %d records since the start", len(all), r.read))
	}
	return nil
}

func (r *reader) note(all []file) {
	now := time.Now()
	next := make(map[string]growth, len(all))
	for _, f := range all {
		g := r.grown[f.name]
		if g.at.IsZero() || g.size != f.size {
			g = growth{f.size, now}
		}
		next[f.name] = g
	}
	r.grown = next
}

// take reads what is new in one file. What is wrong with one file, such as
// its permissions, does not stop the others.
func (r *reader) take(ctx context.Context, st store, f file, mark *mark) error {
	settled := time.Since(r.grown[f.name].at) >= r.settle
	for mark.Offset < f.size {
		more, err := r.batch(ctx, st, f, mark, settled)
		if err != nil {
			return r.file(ctx, f, err)
		}
		if !more {
			break
		}
	}
	if settled && mark.Offset >= f.size && r.cfg.After != site.AfterKeep && f.size > 0 && !r.box.Trial() {
		if err := st.finish(f.name, r.cfg.Archive); err != nil {
			return r.file(ctx, f, err)
		}
		// Another file may come under that name, with the same beginning.
		mark.Offset, mark.Print, mark.Printed = 0, "", 0
	}
	return nil
}

// brokerError is one that ends Run: the position is asked for again.
type brokerError struct{ error }

func (r *reader) file(ctx context.Context, f file, err error) error {
	var broken brokerError
	if ctx.Err() != nil || errors.As(err, &broken) || errors.Is(err, errConnection) {
		return err
	}
	r.troubled = true
	r.box.Trouble(fmt.Errorf("file %s: %w", f.name, err))
	return nil
}

// batch reads on from mark and commits what it finds; more says that there
// may be more at once.
func (r *reader) batch(ctx context.Context, st store, f file, mark *mark, settled bool) (more bool, err error) {
	in, err := st.openAt(f.name, mark.Offset)
	if err != nil {
		return false, err
	}
	buf := make([]byte, min(batchBytes, f.size-mark.Offset))
	n, err := io.ReadFull(in, buf)
	in.Close()
	if err != nil && err != io.ErrUnexpectedEOF {
		return false, err
	}
	buf = buf[:n]
	end := settled && mark.Offset+int64(n) >= f.size
	lot, err := r.split.split(chunk{data: buf, name: f.name, offset: mark.Offset, skip: mark.Skip, end: end, full: n == batchBytes}, func() ([]byte, error) {
		return head(st, f)
	})
	if err != nil || lot.used == 0 {
		return false, err
	}
	if err := r.commit(ctx, st, f, mark, lot); err != nil {
		return false, err
	}
	return true, nil
}

func (r *reader) commit(ctx context.Context, st store, f file, mark *mark, lot lot) error {
	before := *mark
	mark.Offset += int64(lot.used)
	mark.Skip = lot.skip
	if err := mark.recognise(st, f); err != nil {
		*mark = before
		return err
	}
	data, err := r.position.marshal()
	if err != nil {
		return err
	}
	all := slices.Clip(lot.records)
	for _, d := range lot.dead {
		all = append(all, connect.Dead(d.reason, d.data, f.name))
	}
	if err := r.box.Commit(ctx, data, all...); err != nil {
		return brokerError{err}
	}
	r.read += int64(len(lot.records))
	return nil
}

// head is what a file begins with: the line of a CSV file that names columns.
func head(st store, f file) ([]byte, error) {
	in, err := st.openAt(f.name, 0)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	buf := make([]byte, min(f.size, 64<<10))
	n, err := io.ReadFull(in, buf)
	if err != nil && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	return buf[:n], nil
}
