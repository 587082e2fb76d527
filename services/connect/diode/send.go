// Package diode carries topics over a link that has no way back, such as an
// optical data diode: a sender on one side, a receiver on the other.
package diode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/diode/wire"
	"github.com/waysideos/wayside/services/site"
)

// positionEvery is how often the sender tells how far it has come, so that
// the receiver knows of the last loss too, and that the link is up.
const positionEvery = time.Second

// Sender is the side that has the records.
type Sender struct {
	cfg  site.DiodeSend
	rate int64 // bytes a second
}

// NewSender prepares the sender of an entry of the profile.
func NewSender(cfg site.DiodeSend) (connect.Connector, error) {
	n, err := site.ParseRate(cfg.Rate)
	if err != nil {
		return nil, fmt.Errorf("rate: %w", err)
	}
	return &Sender{cfg: cfg, rate: n}, nil
}

// Run implements connect.Connector.
func (s *Sender) Run(ctx context.Context, box *connect.Box) error {
	l, err := s.open(ctx, box)
	if err != nil {
		return err
	}
	defer l.conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(l.tell(ctx)) })
	err = box.Consume(ctx, s.cfg.Topics, l.take)
	cancel(err)
	wg.Wait()
	if cause := context.Cause(ctx); err != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

func (s *Sender) open(ctx context.Context, box *connect.Box) (*line, error) {
	var key string
	if s.cfg.Key != "" {
		var err error
		if key, err = box.Secret(s.cfg.Key); err != nil {
			return nil, err
		}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", s.cfg.Address)
	if err != nil {
		return nil, err
	}
	l := &line{ctx: ctx, box: box, conn: conn, next: map[place]int64{}}
	l.limit = rate.NewLimiter(rate.Limit(s.rate), int(max(s.rate/100, wire.MaxDatagram)))
	l.pack = &wire.Packer{Send: l.send, Stream: uint64(time.Now().UnixNano()), Redundancy: *s.cfg.Redundancy, Key: []byte(key)}
	return l, nil
}

// place is a partition.
type place struct {
	topic     string
	partition int32
}

// line is the link as the sender has it.
type line struct {
	ctx   context.Context
	box   *connect.Box
	conn  net.Conn
	limit *rate.Limiter

	mu   sync.Mutex
	pack *wire.Packer
	next map[place]int64 // what was sent
	sent int64           // records
}

// take sends records. That they arrived nobody can know.
func (l *line) take(_ context.Context, rs []*kgo.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rs {
		at := place{r.Topic, r.Partition}
		prev, known := l.next[at]
		if !known {
			prev = r.Offset
		}
		if err := l.pack.Record(carried(r, prev)); err != nil {
			return err
		}
		l.next[at] = r.Offset + 1
	}
	if err := l.pack.Flush(); err != nil {
		return err
	}
	l.sent += int64(len(rs))
	return nil
}

func carried(r *kgo.Record, prev int64) *wire.Record {
	w := &wire.Record{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Prev: prev,
		Time: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value,
	}
	for _, h := range r.Headers {
		w.Headers = append(w.Headers, wire.Header{Key: h.Key, Value: h.Value})
	}
	return w
}

// tell sends positions until ctx ends or the link fails.
func (l *line) tell(ctx context.Context) error {
	t := time.NewTicker(positionEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if err := l.tellOnce(); err != nil {
			return err
		}
	}
}

func (l *line) tellOnce() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, next := range l.next {
		if err := l.pack.Position(at.topic, at.partition, next); err != nil {
			return err
		}
	}
	if err := l.pack.Flush(); err != nil {
		return err
	}
	l.box.Up(fmt.Sprintf("%d records sent since the start", l.sent))
	return nil
}

// send is at most as fast as the rate. A receiver that refuses (ICMP, where
// the link does have a way back) is not asked: it may be there in a moment.
func (l *line) send(datagram []byte) error {
	if err := l.limit.WaitN(l.ctx, len(datagram)); err != nil {
		return err
	}
	_, err := l.conn.Write(datagram)
	if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}
