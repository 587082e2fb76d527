package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/unpack"
)

// Try runs one connector without a broker: what would be records is given to
// show, and after n of them it ends. It is what an engineer's laptop does.
// The error says why the device gave fewer before ctx ended; it is ctx's own if
// the device has not said anything.
func Try(ctx context.Context, cfg Config, i Instance, n int, show func(*kgo.Record)) error {
	enough, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &screen{left: n, show: show, full: cancel}
	b, err := tryBox(&cfg, i, s)
	if err != nil {
		return err
	}
	b.run(enough, i.Connector)
	if s.left <= 0 {
		return nil
	}
	if s.left == n && b.state.silent() {
		return fmt.Errorf("connector %s: the device has not answered: %w", i.Name, ctx.Err())
	}
	if st := b.state.get(); st.Error != "" {
		return fmt.Errorf("connector %s: %s", i.Name, st.Error)
	}
	return fmt.Errorf("connector %s: %d of %d records came in time", i.Name, n-s.left, n)
}

// Browse has a connector list what its device offers.
func Browse(ctx context.Context, cfg Config, i Instance, w io.Writer) error {
	br, ok := i.Connector.(Browser)
	if !ok {
		return fmt.Errorf("connector %s: protocol %s has nothing to browse", i.Name, i.Protocol)
	}
	b, err := tryBox(&cfg, i, &screen{show: func(*kgo.Record) {}, full: func() {}})
	if err != nil {
		return err
	}
	return br.Browse(ctx, b, w)
}

func tryBox(cfg *Config, i Instance, s *screen) (*Box, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.FS = nil
	var err error
	if cfg.room, err = unpack.NewRoom(unpacked); err != nil {
		return nil, err
	}
	i.Commands = nil // nobody gives any, and nothing is written to the device
	return newBox(cfg, i, s, memory(1))
}

// screen is a backend that shows records.
type screen struct {
	mu   sync.Mutex
	left int
	show func(*kgo.Record)
	full func()
	at   []byte
}

func (s *screen) produce(_ context.Context, r *kgo.Record, done func(error)) {
	s.mu.Lock()
	if s.left > 0 {
		s.show(r)
		if s.left--; s.left == 0 {
			s.full()
		}
	}
	s.mu.Unlock()
	done(nil)
}

// commit shows records and remembers the position only as long as it lasts.
func (s *screen) commit(ctx context.Context, position []byte, rs []*kgo.Record) error {
	for _, r := range rs {
		s.produce(ctx, r, func(error) {})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = position
	return nil
}

func (s *screen) position(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at, nil
}

func (s *screen) commands(context.Context, *Box) error {
	return errors.New("there are no commands without a broker")
}

func (s *screen) close() {}
