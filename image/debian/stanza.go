package debian

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	maxLine  = 1 << 20 // bytes; the longest Provides lines of Debian are near 100 KB
	maxField = 8 << 20 // bytes; the SHA256 field of a Release file is near 300 KB
)

// stanzas reads the paragraphs of a Debian control file (Debian Policy 5.1)
// and keeps only the fields asked for, in buffers that are used again: an index
// of 56 MB passes through some hundred kilobytes.
type stanzas struct {
	r    *bufio.Reader
	want []string
	vals [][]byte
	seen []bool
	line int
}

func newStanzas(r io.Reader, want ...string) *stanzas {
	return &stanzas{
		r:    bufio.NewReaderSize(r, maxLine),
		want: want,
		vals: make([][]byte, len(want)),
		seen: make([]bool, len(want)),
	}
}

// next reads one paragraph; io.EOF says there is none left.
func (s *stanzas) next() error {
	for i := range s.vals {
		s.vals[i], s.seen[i] = s.vals[i][:0], false
	}
	current, any := -1, false
	for {
		line, err := s.readLine()
		if err == io.EOF {
			if any {
				return nil
			}
			return io.EOF
		}
		if err != nil {
			return err
		}
		switch {
		case len(bytes.TrimSpace(line)) == 0:
			if any {
				return nil
			}
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if !any {
				return s.errorf("a continuation line begins the paragraph")
			}
			if err := s.extend(current, line); err != nil {
				return err
			}
		default:
			if current, err = s.begin(line); err != nil {
				return err
			}
			any = true
		}
	}
}

// begin takes a "Name: value" line and returns the index of the wanted field,
// or -1.
func (s *stanzas) begin(line []byte) (int, error) {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || len(name) == 0 {
		return -1, s.errorf("neither a field nor a continuation line")
	}
	for i, want := range s.want {
		if len(name) != len(want) || !bytes.EqualFold(name, []byte(want)) {
			continue
		}
		if s.seen[i] {
			return -1, s.errorf("field %s is there twice", want)
		}
		s.seen[i] = true
		s.vals[i] = append(s.vals[i], bytes.TrimSpace(value)...)
		return i, nil
	}
	return -1, nil
}

func (s *stanzas) extend(field int, line []byte) error {
	if field < 0 {
		return nil
	}
	if len(s.vals[field])+len(line) > maxField {
		return s.errorf("field %s is longer than %d bytes", s.want[field], maxField)
	}
	s.vals[field] = append(s.vals[field], '\n')
	s.vals[field] = append(s.vals[field], bytes.TrimSpace(line)...)
	return nil
}

func (s *stanzas) readLine() ([]byte, error) {
	line, err := s.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		s.line++
		return nil, s.errorf("longer than %d bytes", maxLine)
	}
	if err != nil && (err != io.EOF || len(line) == 0) {
		return nil, err
	}
	s.line++
	return line, nil
}

// raw is the value of the i-th wanted field, valid until the next paragraph;
// text is a copy.
func (s *stanzas) raw(i int) []byte  { return s.vals[i] }
func (s *stanzas) text(i int) string { return string(s.vals[i]) }

func (s *stanzas) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %s", s.line, fmt.Sprintf(format, args...))
}
