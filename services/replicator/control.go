package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/replicator/budget"
)

// kept is what a link keeps on the box beside its positions: the one record
// of a compacted topic of its own, so that a pause and a month's bytes
// outlive a restart.
type kept struct {
	Version int         `json:"v"`
	Paused  bool        `json:"paused"`
	Used    budget.Used `json:"used"`
}

const (
	keptVersion = 1
	keptEvery   = time.Minute
)

func (l *link) keptTopic() string { return ownTopics + "state." + l.name }

// recall reads what was kept, once.
func (l *link) recall(ctx context.Context) error {
	if l.recalled {
		return nil
	}
	cl, err := l.boxOnly()
	if err != nil {
		return err
	}
	end, err := offsetOf(ctx, kadm.NewClient(cl).ListEndOffsets, l.keptTopic())
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		l.recalled = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what was kept of the link: %w", err)
	}
	var last kept
	err = readLog(ctx, l.near, l.keptTopic(), 0, end, func(r *kgo.Record) {
		var k kept
		if json.Unmarshal(r.Value, &k) == nil && k.Version == keptVersion {
			last = k
		}
	})
	if err != nil {
		return err
	}
	l.recalled = true
	l.budget.Restore(last.Used)
	l.setPaused(last.Paused)
	l.remembered = last
	return nil
}

// keep writes what has changed.
func (l *link) keep(ctx context.Context, now bool) error {
	if !l.recalled || !now && time.Since(l.keptAt) < keptEvery {
		return nil
	}
	l.keptAt = time.Now()
	k := kept{Version: keptVersion, Paused: l.isPaused()}
	if l.budget.Limited() {
		k.Used = l.budget.Used(time.Now())
	}
	if k == l.remembered || l.remembered.Version == 0 && !k.Paused && k.Used.DayBytes == 0 {
		return nil
	}
	v, err := json.Marshal(k)
	if err != nil {
		return err
	}
	cl, err := l.box(ctx, l.keptTopic(), map[string]string{"cleanup.policy": "compact"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: l.keptTopic(), Key: []byte("state"), Value: v}).FirstErr(); err != nil {
		return fmt.Errorf("keep the link's state: %w", err)
	}
	l.remembered = k
	return nil
}

func (l *link) isPaused() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.paused }

func (l *link) setPaused(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = yes
	l.metrics.paused.Set(map[bool]float64{true: 1}[yes])
}

// command is something for the loop to do, which owns what it changes.
type command struct {
	do   func(context.Context) error
	done chan error // of one
}

// errBusy: the command waits behind a lot that the centre does not answer.
var errBusy = errors.New("the link waits for the centre; it will be done when the lot under way is answered")

// order has the loop do something and waits for it, for a moment.
func (l *link) order(ctx context.Context, do func(context.Context) error) error {
	c := command{do, make(chan error, 1)}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	select {
	case l.commands <- c:
	case <-ctx.Done():
		return errBusy
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return errBusy
	}
}

// obey does what was ordered.
func (l *link) obey(ctx context.Context) {
	for {
		select {
		case c := <-l.commands:
			c.done <- c.do(ctx)
		default:
			return
		}
	}
}

// setPause stops or resumes the link. A lot under way is carried to its end.
func (l *link) setPause(ctx context.Context, yes bool) error {
	l.setPaused(yes)
	l.log.Info("link is paused or resumed by hand", "paused", yes)
	return l.order(ctx, func(ctx context.Context) error { return l.keep(ctx, true) })
}

// Ends of a rewind.
const (
	earliest = -2
	latest   = -1
)

// rewind has a topic carried from an offset on, or from where its log starts
// or ends. It may repeat or leave out records: that is what it is for.
func (l *link) rewind(ctx context.Context, topic string, num int, to int64) error {
	return l.order(ctx, func(ctx context.Context) error {
		var ps []*partition
		for _, p := range l.parts {
			if p.topic == topic && (num < 0 || int(p.num) == num) {
				ps = append(ps, p)
			}
		}
		if len(ps) == 0 {
			return fmt.Errorf("link %s carries no topic %s/%d", l.name, topic, num)
		}
		if !l.opened || l.ledger.doubt[destKey{l.positionLog(), 0}] {
			return errors.New("the destination is away: a rewind is written there")
		}
		logs, err := l.sourceLogs(ctx, ps)
		if err != nil {
			return err
		}
		for _, p := range ps {
			log, ok := logs[p]
			if !ok {
				return fmt.Errorf("the source does not say what it has of %s/%d", p.topic, p.num)
			}
			at := to
			switch to {
			case earliest:
				at = log.start
			case latest:
				at = log.end
			}
			if at < log.start || at > log.end {
				return fmt.Errorf("%s/%d has offsets %d to %d at the source, not %d", p.topic, p.num, log.start, log.end, at)
			}
			l.unfetch(p)
			l.log.Warn("position is set by hand", "topic", p.topic, "partition", p.num, "from", p.next, "to", at)
			l.mu.Lock()
			p.reset()
			p.position, p.seen, p.err, p.retry = position{next: at, epoch: -1, dest: -1}, at, nil, time.Time{}
			p.pairs, p.onBox = nil, nil
			if p.lane.first != nil {
				p.position = idleNewest
			}
			l.notes[p.topic] = fmt.Sprintf("%s/%d: set to offset %d by hand", p.topic, p.num, at)
			l.mu.Unlock()
		}
		l.begin(ctx, slices.DeleteFunc(slices.Clone(ps), (*partition).rests))
		if !l.ledger.exact {
			return l.mirror(ctx, false)
		}
		return l.ledger.saveQuiet(ctx)
	})
}
