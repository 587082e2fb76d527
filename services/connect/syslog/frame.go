package syslog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// frames reads messages from a stream, each framed in one of the two ways of
// RFC 6587: its length, a space and so many bytes, or a line.
type frames struct {
	r   *bufio.Reader
	max int
}

// tooLong is a message longer than may be; begin is how it begins. The stream
// goes on behind it.
type tooLong struct{ begin []byte }

func (tooLong) Error() string { return "the message is longer than max_message" }

func newFrames(r io.Reader, most int) *frames {
	return &frames{r: bufio.NewReaderSize(r, 16<<10), max: most}
}

// next returns a message that is the caller's, io.EOF at a clean end, or a
// tooLong. After any other error the stream cannot be read on.
func (f *frames) next() ([]byte, error) {
	for {
		first, err := f.r.Peek(1)
		if err != nil {
			return nil, err
		}
		switch c := first[0]; {
		case c >= '1' && c <= '9':
			return f.counted()
		case c == '\n', c == '\r', c == 0, c == ' ':
			_, _ = f.r.Discard(1) // between messages
		default:
			return f.line()
		}
	}
}

// counted reads "LENGTH SP MESSAGE" (RFC 6587, 3.4.1).
func (f *frames) counted() ([]byte, error) {
	n := 0
	for {
		c, err := f.r.ReadByte()
		switch {
		case err != nil:
			return nil, noEOF(err)
		case c == ' ':
			return f.exactly(n)
		case c < '0' || c > '9' || n > 1e8:
			return nil, errors.New("the stream is neither counted nor in lines")
		}
		n = 10*n + int(c-'0')
	}
}

func (f *frames) exactly(n int) ([]byte, error) {
	b := make([]byte, min(n, f.max))
	if _, err := io.ReadFull(f.r, b); err != nil {
		return nil, noEOF(err)
	}
	if rest := n - len(b); rest > 0 {
		if _, err := io.CopyN(io.Discard, f.r, int64(rest)); err != nil {
			return nil, noEOF(err)
		}
		return nil, tooLong{b}
	}
	return b, nil
}

// line reads to a line feed (RFC 6587, 3.4.2), or to a NUL, which some send
// instead. A last line without its end was cut off by a sender that went away.
func (f *frames) line() ([]byte, error) {
	var b []byte
	long := false
	for {
		c, err := f.r.ReadByte()
		switch {
		case err != nil:
			return nil, noEOF(err)
		case (c == '\n' || c == 0) && long:
			return nil, tooLong{b}
		case c == '\n' || c == 0:
			if n := len(b); b[n-1] == '\r' {
				b = b[:n-1]
			}
			return b, nil
		case len(b) == f.max:
			long = true
		default:
			b = append(b, c)
		}
	}
}

// noEOF is for an end in the middle of a message.
func noEOF(err error) error {
	if err == io.EOF {
		return fmt.Errorf("the sender went away in the middle of a message: %w", io.ErrUnexpectedEOF)
	}
	return err
}
