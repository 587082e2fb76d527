package filesink

import (
	"bufio"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// part is a file that grows, in the folder of those that are not complete.
type part struct {
	at     place
	path   string // below the folder that is written to
	name   string // that it gets
	opened time.Time
	next   int64 // offset behind the last record that it has, or passed over

	file      vfs.File
	buf       *bufio.Writer
	off       int64
	columns   []column
	version   int // of the table that they are of
	enc       encoder
	rows      int
	dead      []connect.Record // what can be in no row
	deadBytes int
}

// newPart makes the file of what comes behind a mark. Whatever an earlier run
// left under its name is of records that come again.
func newPart(cfg *site.FileSink, fsys vfs.FS, path, name string, columns []column) (*part, error) {
	f, err := fsys.Create(path)
	if err != nil {
		return nil, fmt.Errorf("begin a file: %w", err)
	}
	p := &part{path: path, name: name, file: f, columns: columns}
	p.buf = bufio.NewWriterSize(p, 64<<10)
	if p.enc, err = newEncoder(cfg, columns, p.buf); err != nil {
		f.Close()
		return nil, fmt.Errorf("begin a file: %w", err)
	}
	return p, nil
}

// Write implements io.Writer.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.file.WriteAt(b, p.off)
	p.off += int64(n)
	return n, err
}

func (p *part) add(r *kgo.Record, fs []field) error {
	row, err := row(p.columns, r, fs)
	if err != nil {
		p.refuse(r, err)
		return nil
	}
	if err := p.enc.add(row); err != nil {
		return fmt.Errorf("write %s: %w", p.name, err)
	}
	p.rows++
	return nil
}

// refuse keeps a dead letter for the commit of the file.
func (p *part) refuse(r *kgo.Record, why error) {
	p.dead = append(p.dead, connect.Dead(why.Error(), r.Value, fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset)))
	p.deadBytes += len(r.Value)
}

// finish has all of it on the disk.
func (p *part) finish() error {
	err := p.enc.close()
	if err == nil {
		err = p.buf.Flush()
	}
	if err == nil {
		err = p.file.Sync()
	}
	if err := errors.Join(err, p.file.Close()); err != nil {
		return fmt.Errorf("complete %s: %w", p.name, err)
	}
	return nil
}

func (p *part) abandon() { p.file.Close() }
