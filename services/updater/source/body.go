package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// body is an answer that must move on and must have all its bytes.
type body struct {
	io.ReadCloser
	ctx          context.Context
	cancel       context.CancelCauseFunc
	stall        time.Duration
	left         int64 // bytes that are still due; Rest if nobody knows
	source, name string

	moved  int64         // bytes since waited was 0
	waited time.Duration // in Read; what the reader does between is its own affair
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	begin := time.Now()
	timer := time.AfterFunc(b.stall-b.waited, func() {
		b.cancel(fmt.Errorf("the server has sent nothing to speak of for %s", b.stall))
	})
	n, err := b.ReadCloser.Read(p)
	timer.Stop()
	b.waited += time.Since(begin)
	if b.moved += int64(n); b.moved >= progressBytes {
		b.moved, b.waited = 0, 0
	}
	if b.left > 0 {
		b.left -= int64(n)
	}
	return n, b.explain(err)
}

// explain puts an end of the answer into words.
func (b *body) explain(err error) error {
	switch {
	case err == nil, err == io.EOF && b.left <= 0:
		return err
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("the answer ends %d bytes too soon: %w", max(b.left, 0), io.ErrUnexpectedEOF)
	case b.ctx.Err() != nil:
		err = context.Cause(b.ctx)
		if errors.Is(err, context.Canceled) {
			return err // by the caller
		}
	}
	return &Error{Source: b.source, Name: b.name, Kind: Unreachable, Err: err}
}

func (b *body) Close() error {
	b.cancel(nil)
	return b.ReadCloser.Close()
}
