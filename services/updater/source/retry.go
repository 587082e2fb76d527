package source

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/waysideos/wayside/services/kafka"
)

// Patience bounds how a source in trouble is asked again: after Low, doubled
// up to High, with jitter, Tries times in a row without progressBytes gained.
type Patience struct {
	Tries     int
	Low, High time.Duration
}

// DefaultPatience takes some ten minutes before it gives up; the next round
// of the schedule begins where this one stopped.
var DefaultPatience = Patience{Tries: 12, Low: time.Second, High: 2 * time.Minute}

// Steady is a Source whose readers go on where a server cut them off.
type Steady struct {
	Source
	Patience Patience
	Log      *slog.Logger
	// Got is told of every byte that arrives; may be nil.
	Got func(n int)
}

// Open implements Source: the reader asks again for what is missing.
func (s *Steady) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r := &steadyReader{s: s, ctx: ctx, name: name, start: offset, offset: offset, length: length}
	if err := r.connect(); err != nil {
		return nil, err
	}
	return r, nil
}

type steadyReader struct {
	s              *Steady
	ctx            context.Context
	name           string
	start          int64 // where the caller began
	offset, length int64 // of what is still to be read
	failed         int   // tries in a row
	gained         int   // bytes since the last one
	now            io.ReadCloser
}

// connect opens the source at the reader's place, again and again.
func (r *steadyReader) connect() error {
	for {
		in, err := r.s.Source.Open(r.ctx, r.name, r.offset, r.length)
		if KindOf(err) == NoRanges && r.offset > r.start {
			in, err = r.s.Source.Open(r.ctx, r.name, r.offset, Rest) // what was read is passed over
		}
		if err == nil {
			r.now = in
			return nil
		}
		if err := r.wait(err); err != nil {
			return err
		}
	}
}

// wait waits before the next try; it returns err when there is none.
func (r *steadyReader) wait(err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Kind == NotThere || e.Kind == NoRanges || r.ctx.Err() != nil {
		return err
	}
	r.gained = 0
	if r.failed++; r.failed >= r.s.Patience.Tries {
		return err
	}
	pause := max(kafka.Backoff(r.failed, r.s.Patience.Low, r.s.Patience.High), time.Duration(e.After)*time.Second)
	r.s.Log.Warn("update source is in trouble, it is asked again", "error", err, "after", pause.Round(time.Millisecond))
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-r.ctx.Done():
		return r.ctx.Err()
	case <-t.C:
		return nil
	}
}

func (r *steadyReader) Read(p []byte) (int, error) {
	for {
		if r.length == 0 {
			return 0, io.EOF
		}
		if r.length > 0 && int64(len(p)) > r.length {
			p = p[:r.length]
		}
		n, err := r.now.Read(p)
		if n > 0 {
			if r.gained += n; r.gained >= progressBytes {
				r.failed = 0
			}
			r.offset += int64(n)
			if r.length > 0 {
				r.length -= int64(n)
			}
			if r.s.Got != nil {
				r.s.Got(n)
			}
			return n, nil
		}
		if err == nil {
			continue
		}
		if err == io.EOF && r.length <= 0 {
			return 0, io.EOF
		}
		if err == io.EOF {
			err = &Error{Source: r.s.String(), Name: r.name, Kind: Unreachable, Err: io.ErrUnexpectedEOF}
		}
		r.now.Close()
		if err := r.wait(err); err != nil {
			return 0, err
		}
		if err := r.connect(); err != nil {
			return 0, err
		}
	}
}

func (r *steadyReader) Close() error { return r.now.Close() }
