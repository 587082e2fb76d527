// Package source reads the files of a release repository from where they are:
// a web server, a folder, another box. It believes none of them; it only says
// in words what went wrong and which of it may pass.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Rest is the length that means "to the end".
const Rest = int64(-1)

// Source is a folder of files that never change under their name, but for
// timestamp.json.
type Source interface {
	// Open gives the bytes of name from offset on: length of them, or all
	// with Rest. name is slash-separated and relative. A reader that ends
	// before length bytes ends with io.ErrUnexpectedEOF, and one that stands
	// still fails. Errors are *Error.
	Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// String names the source for people.
	String() string
}

// Kind says what kind of trouble a source is in.
type Kind string

const (
	NotThere    Kind = "not there"     // the file, or the whole source; asking again soon is of no use
	Unreachable Kind = "unreachable"   // no connection, stalled, cut off: may pass
	Busy        Kind = "busy"          // it answers that it cannot now: may pass
	Refused     Kind = "refused"       // it answers, and does not want to
	Misbehaves  Kind = "misbehaves"    // an answer that is none
	NoRanges    Kind = "has no ranges" // it sends the whole file where a part was asked for
)

// Error is what a source could not do.
type Error struct {
	Source string // String of the source
	Name   string // the file
	Kind   Kind
	Err    error
	// After is when the server wants to be asked again, in seconds; 0 if it
	// does not say.
	After int
}

func (e *Error) Error() string { return fmt.Sprintf("%s: read %s: %v", e.Source, e.Name, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of a source's error, "" for any other.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// ReadAll reads a whole file of at most most bytes.
func ReadAll(ctx context.Context, s Source, name string, most int64) ([]byte, error) {
	r, err := s.Open(ctx, name, 0, Rest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, wrap(s, name, err)
	}
	if int64(len(data)) > most {
		return nil, &Error{Source: s.String(), Name: name, Kind: Misbehaves, Err: fmt.Errorf("is longer than %d bytes", most)}
	}
	return data, nil
}

// wrap makes an error of a reader one of its source.
func wrap(s Source, name string, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) || errors.Is(err, context.Canceled) {
		return err
	}
	return &Error{Source: s.String(), Name: name, Kind: Unreachable, Err: err}
}
