package filesink

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"math"
	"time"

	"github.com/waysideos/wayside/services/site"
)

// encoder writes one file.
type encoder interface {
	add(row []any) error
	size() int64  // bytes so far, with those in memory
	close() error // the file is whole after it
}

// newEncoder begins a file with what its format has at the start.
func newEncoder(cfg *site.FileSink, columns []column, w io.Writer) (encoder, error) {
	switch cfg.Format {
	case site.SinkParquet:
		return newParquet(columns, w), nil
	case site.SinkJSON:
		return newJSON(columns, w), nil
	}
	return newCSV(cfg, columns, w)
}

// endings of files, by format.
var endings = map[string]string{site.SinkCSV: ".csv", site.SinkJSON: ".jsonl", site.SinkParquet: ".parquet"}

// counter counts what goes through it.
type counter struct {
	io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

// csvFile is RFC 4180 with line ends of one character; the first line has the
// names.
type csvFile struct {
	out  counter
	w    *csv.Writer
	line []string
}

func newCSV(cfg *site.FileSink, columns []column, w io.Writer) (*csvFile, error) {
	f := &csvFile{out: counter{Writer: w}, line: make([]string, len(columns))}
	f.w = csv.NewWriter(&f.out)
	f.w.Comma = []rune(cfg.Delimiter)[0]
	for i, c := range columns {
		f.line[i] = c.name
	}
	return f, f.flush()
}

func (f *csvFile) add(row []any) error {
	for i, v := range row {
		f.line[i] = text(v)
	}
	return f.flush()
}

func (f *csvFile) flush() error {
	if err := f.w.Write(f.line); err != nil {
		return err
	}
	f.w.Flush()
	return f.w.Error()
}

func (f *csvFile) size() int64  { return f.out.n }
func (f *csvFile) close() error { return nil }

// jsonFile has an object a line; what a record does not have is left out.
type jsonFile struct {
	out   counter
	names [][]byte // quoted, with the colon
	line  bytes.Buffer
}

func newJSON(columns []column, w io.Writer) *jsonFile {
	f := &jsonFile{out: counter{Writer: w}}
	for _, c := range columns {
		name, _ := json.Marshal(c.name)
		f.names = append(f.names, append(name, ':'))
	}
	return f
}

func (f *jsonFile) add(row []any) error {
	f.line.Reset()
	f.line.WriteByte('{')
	for i, v := range row {
		if v == nil {
			continue
		}
		switch x := v.(type) {
		case time.Time:
			v = text(x)
		case float64:
			if math.IsNaN(x) || math.IsInf(x, 0) { // JSON has none
				v = text(x)
			}
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if f.line.Len() > 1 {
			f.line.WriteByte(',')
		}
		f.line.Write(f.names[i])
		f.line.Write(b)
	}
	f.line.WriteString("}\n")
	_, err := f.out.Write(f.line.Bytes())
	return err
}

func (f *jsonFile) size() int64  { return f.out.n }
func (f *jsonFile) close() error { return nil }
