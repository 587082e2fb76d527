package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/waysideos/wayside/boards"
)

// buildAll builds the image of every board into o.out, as many at a time as
// there are processors, and returns the results in the order of the boards.
func buildAll(ctx context.Context, o buildOptions, log io.Writer) ([]built, error) {
	all, err := boards.All()
	if err != nil {
		return nil, err
	}
	// A mistake in what they have in common shows before anything is built,
	// and keys that are not there yet are made once.
	if _, err := o.input(); err != nil {
		return nil, err
	}
	results := make([]built, len(all))
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, b := range all {
		g.Go(func() (err error) {
			board := o
			board.board = b.Slug
			line := &prefixed{w: log, mu: &mu, prefix: fmt.Sprintf("%-12s ", b.Slug)}
			if results[i], err = buildImage(ctx, board, line); err != nil {
				return fmt.Errorf("board %s: %w", b.Slug, err)
			}
			return nil
		})
	}
	return results, g.Wait()
}

// printBuilt writes results as JSON, one object a line.
func printBuilt(w io.Writer, results ...built) error {
	out := json.NewEncoder(w)
	for _, r := range results {
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// prefixed puts a prefix before every line of one of several writers that
// share w and mu.
type prefixed struct {
	w      io.Writer
	mu     *sync.Mutex
	prefix string
	rest   []byte // a line that has not ended
}

func (p *prefixed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, b...)
	for {
		end := bytes.IndexByte(p.rest, '\n')
		if end < 0 {
			return len(b), nil
		}
		if _, err := fmt.Fprintf(p.w, "%s%s", p.prefix, p.rest[:end+1]); err != nil {
			return 0, err
		}
		p.rest = p.rest[end+1:]
	}
}
