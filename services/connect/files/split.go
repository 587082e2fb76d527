package files

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/decode"
	"github.com/waysideos/wayside/services/site"
)

// chunk is a piece of a file.
type chunk struct {
	data   []byte
	name   string
	offset int64 // of data in the file
	skip   bool  // data begins in a record that was too long
	end    bool  // nothing comes after data
	full   bool  // data is as long as a record may be
}

// maxLot bounds the records of a commit: short ones take far more memory than
// their bytes.
const maxLot = 10_000

// lot is what a chunk holds.
type lot struct {
	records []connect.Record
	dead    []dead
	used    int  // bytes of the chunk that are done with
	skip    bool // the last record goes on behind it, and is too long
}

type dead struct {
	reason string
	data   []byte
}

// splitter makes records of a format. head gives what the file begins with.
type splitter struct {
	cut    func(data []byte) int // bytes of the first record with its end, 0: it has none yet
	value  func(record []byte, columns []string) ([]byte, error)
	csv    *csvFormat
	whole  bool // a file is a record
	binary bool // line ends mean nothing
}

// byteOrderMark is what some programs write before UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

func newSplitter(cfg site.Files) (splitter, error) {
	switch cfg.Format {
	case site.FilesCSV:
		f := &csvFormat{delimiter: []rune(cfg.Delimiter)[0], columns: cfg.Columns, numbers: cfg.Numbers}
		return splitter{cut: cutQuoted, value: f.value, csv: f}, nil
	case site.FilesFixed:
		f, err := newFixed(cfg)
		if err != nil {
			return splitter{}, err
		}
		return splitter{cut: f.cut, value: f.value, binary: true}, nil
	case site.FilesWhole:
		return splitter{whole: true, binary: true, cut: func([]byte) int { return 0 }, value: plain}, nil
	case site.FilesJSON:
		return splitter{cut: cutLine, value: func(b []byte, _ []string) ([]byte, error) {
			if !json.Valid(b) {
				return nil, errors.New("the line is not JSON")
			}
			return b, nil
		}}, nil
	}
	return splitter{cut: cutLine, value: plain}, nil
}

func plain(b []byte, _ []string) ([]byte, error) { return b, nil }

func cutLine(data []byte) int { return bytes.IndexByte(data, '\n') + 1 }

// cutQuoted does not take a line end in quotes for the end (RFC 4180, 2.6).
func cutQuoted(data []byte) int {
	quoted := false
	for i, b := range data {
		switch {
		case b == '"':
			quoted = !quoted
		case b == '\n' && !quoted:
			return i + 1
		}
	}
	return 0
}

// split takes the whole records at the beginning of a chunk.
func (s *splitter) split(c chunk, head func() ([]byte, error)) (lot, error) {
	var l lot
	columns, err := s.columns(c, head)
	if err != nil {
		return l, err
	}
	if c.skip {
		if l.used = s.lineEnd(c.data); l.used == 0 {
			return lot{used: len(c.data), skip: !c.end}, nil
		}
	}
	for l.used < len(c.data) && len(l.records)+len(l.dead) < maxLot {
		rest := c.data[l.used:]
		n := s.cut(rest)
		switch {
		case n > 0:
		case c.end:
			n = len(rest)
		case c.full && l.used == 0: // longer than any record may be
			return s.tooLong(c, l), nil
		default:
			return l, nil
		}
		if s.csv == nil || s.csv.columns != nil || c.offset+int64(l.used) > 0 {
			s.add(&l, c, rest[:n], columns)
		}
		l.used += n
	}
	return l, nil
}

func (s *splitter) tooLong(c chunk, l lot) lot {
	n := s.lineEnd(c.data) // of a CSV file perhaps a quote without its twin
	l.skip = n == 0
	if n == 0 {
		n = len(c.data)
	}
	l.used = n
	l.dead = append(l.dead, dead{fmt.Sprintf("a record of more than %d bytes, at byte %d", batchBytes, c.offset), bytes.Clone(c.data[:min(n, 1024)])})
	return l
}

// lineEnd is where reading can go on after a record that is too long; 0:
// not in data.
func (s *splitter) lineEnd(data []byte) int {
	if s.whole {
		return 0
	}
	return cutLine(data)
}

func (s *splitter) add(l *lot, c chunk, record []byte, columns []string) {
	at := c.offset + int64(l.used)
	body := record
	if !s.binary {
		body = bytes.TrimSuffix(bytes.TrimSuffix(record, []byte("\n")), []byte("\r"))
		if at == 0 {
			body = bytes.TrimPrefix(body, byteOrderMark)
		}
		if len(body) == 0 {
			return // a blank line
		}
	}
	value, err := s.value(body, columns)
	switch {
	case err != nil:
		l.dead = append(l.dead, dead{fmt.Sprintf("%v, at byte %d", err, at), bytes.Clone(record)})
	default:
		l.records = append(l.records, connect.Record{
			Value: bytes.Clone(value), Values: map[string]string{"file": c.name},
			Headers: []connect.Header{{Key: "file", Value: []byte(c.name)}, {Key: "offset", Value: strconv.AppendInt(nil, at, 10)}},
		})
	}
}

// columns are a CSV file's: the profile's, or those of its first line.
func (s *splitter) columns(c chunk, head func() ([]byte, error)) ([]string, error) {
	if s.csv == nil || s.csv.columns != nil {
		if s.csv != nil {
			return s.csv.columns, nil
		}
		return nil, nil
	}
	data := c.data
	if c.offset > 0 {
		var err error
		if data, err = head(); err != nil {
			return nil, err
		}
	}
	n := cutQuoted(data)
	if n == 0 && !c.end {
		return nil, nil // not there yet: no record is either
	}
	if n == 0 {
		n = len(data)
	}
	names, err := s.csv.parse(bytes.TrimPrefix(data[:n], byteOrderMark))
	if err != nil {
		return nil, fmt.Errorf("the line that names the columns: %w", err)
	}
	return names, nil
}

type csvFormat struct {
	delimiter rune
	columns   []string
	numbers   bool
}

func (f *csvFormat) parse(record []byte) ([]string, error) {
	r := csv.NewReader(bytes.NewReader(record))
	r.Comma, r.FieldsPerRecord = f.delimiter, -1
	return r.Read()
}

// number is JSON's (RFC 8259, 6).
var number = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

func (f *csvFormat) value(record []byte, columns []string) ([]byte, error) {
	fields, err := f.parse(record)
	if err != nil {
		return nil, err
	}
	if len(fields) != len(columns) {
		return nil, fmt.Errorf("%d fields for %d columns", len(fields), len(columns))
	}
	values := make([]any, len(fields))
	for i, s := range fields {
		values[i] = s
		if f.numbers && number.MatchString(s) {
			values[i] = json.Number(s)
		}
	}
	return object(columns, values)
}

// object is a JSON object whose fields keep their order.
func object(names []string, values []any) ([]byte, error) {
	b := []byte{'{'}
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(values[i])
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, key...), ':'), value...)
	}
	return append(b, '}'), nil
}

type fixed struct {
	length int
	names  []string
	at     []int
	codecs []decode.Codec
}

func newFixed(cfg site.Files) (*fixed, error) {
	f := &fixed{length: cfg.Length}
	for _, d := range cfg.Fields {
		c, err := decode.New(decode.Spec{Type: d.Type, Order: d.Order, Length: d.Length, Scale: d.Scale, Offset: d.Offset})
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", d.Name, err)
		}
		if d.At+c.Size() > f.length {
			return nil, fmt.Errorf("field %s ends behind the %d bytes of a record", d.Name, f.length)
		}
		f.names, f.at, f.codecs = append(f.names, d.Name), append(f.at, d.At), append(f.codecs, c)
	}
	return f, nil
}

func (f *fixed) cut(data []byte) int {
	if len(data) < f.length {
		return 0
	}
	return f.length
}

func (f *fixed) value(record []byte, _ []string) ([]byte, error) {
	values := make([]any, len(f.names))
	for i, c := range f.codecs {
		if f.at[i]+c.Size() > len(record) {
			return nil, fmt.Errorf("the record ends in field %s", f.names[i])
		}
		v, err := c.Decode(record[f.at[i] : f.at[i]+c.Size()])
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.names[i], err)
		}
		if s, ok := v.(string); ok {
			v = strings.TrimRight(s, " \x00")
		}
		values[i] = v
	}
	return object(f.names, values)
}
