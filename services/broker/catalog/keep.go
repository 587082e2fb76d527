package catalog

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waysideos/wayside/services/broker/store"
)

const (
	// keepEvery is how often retention looks at all partitions, and how long
	// compaction rests when nothing is due.
	keepEvery = 10 * time.Second
	// saveAgeEvery is how much of the data directory's age a power cut may take
	// back.
	saveAgeEvery = 10 * time.Minute
	// maxUnsaved is how much all logs together may have to read after a crash,
	// in bytes; when it is more, checkpoints bring it down to half.
	maxUnsaved = 64 << 20
	// A round of scrubbing takes this long at least.
	scrubEvery = 7 * 24 * time.Hour
	// Rates of background reading and writing, in bytes a second.
	scrubRate   = 2 << 20
	compactRate = 16 << 20
)

// KeepStats count what housekeeping has done since the start.
type KeepStats struct {
	Compactions int64
	CompactRead int64 // bytes
	CompactWrit int64
	Freed       int64 // bytes that compaction saved
	Scrubbed    int64 // segments
}

type keepCounts struct{ compactions, read, written, freed, scrubbed atomic.Int64 }

// KeepStats returns them.
func (c *Catalog) KeepStats() KeepStats {
	n := &c.counts
	return KeepStats{n.compactions.Load(), n.read.Load(), n.written.Load(), n.freed.Load(), n.scrubbed.Load()}
}

// Keep looks after all logs until ctx ends: retention, segments that are due,
// checkpoints, compaction, scrubbing. One log is compacted or scrubbed at a
// time, and retention does not wait for it.
func (c *Catalog) Keep(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() {
		every(ctx, keepEvery, func() { c.retain(ctx) })
	})
	wg.Go(func() {
		every(ctx, saveAgeEvery, c.saveAge)
	})
	wg.Go(func() { c.work(ctx) })
	wg.Wait()
}

// every calls f at intervals until ctx ends.
func every(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

func (c *Catalog) saveAge() {
	if err := c.age.save(); err != nil {
		c.opts.Log.Warn("save the age of the data directory", "err", err)
	}
}

// Retain applies every topic's retention once.
func (c *Catalog) Retain() { c.retain(context.Background()) }

func (c *Catalog) retain(ctx context.Context) {
	c.eachLog(ctx, func(t *Topic, part int, l *store.Log) {
		r := store.Retention{Bytes: -1, Ms: -1} // compaction alone deletes nothing, but rolls
		if t.settings.Compaction.Delete {
			r = t.Retention()
		}
		if err := l.Retain(r); err != nil && !errors.Is(err, store.ErrClosed) {
			c.opts.Log.Warn("apply retention", "topic", t.Name, "partition", part, "err", err)
		}
	})
	c.saveLogs(ctx)
}

// eachLog calls f for every log that is open.
func (c *Catalog) eachLog(ctx context.Context, f func(t *Topic, part int, l *store.Log)) {
	for _, t := range c.All() {
		for i, p := range t.Partitions {
			if ctx.Err() != nil {
				return
			}
			if p.Log != nil {
				f(t, i, p.Log)
			}
		}
	}
}

// saveLogs writes checkpoints while a crash would leave much to be read, the
// longest tails first.
func (c *Catalog) saveLogs(ctx context.Context) {
	type tail struct {
		log   *store.Log
		bytes int64
	}
	var tails []tail
	var sum int64
	c.eachLog(ctx, func(_ *Topic, _ int, l *store.Log) {
		if n := l.Unsaved(); n > 0 {
			tails, sum = append(tails, tail{l, n}), sum+n
		}
	})
	if sum <= maxUnsaved {
		return
	}
	slices.SortFunc(tails, func(a, b tail) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, t := range tails {
		if sum <= maxUnsaved/2 || ctx.Err() != nil {
			return
		}
		if err := t.log.Save(); err != nil {
			c.opts.Log.Warn("save a checkpoint", "err", err)
		}
		sum -= t.bytes
	}
}

// work compacts and scrubs, one log at a time, what is most urgent first.
func (c *Catalog) work(ctx context.Context) {
	compact, scrub := pacer(compactRate), pacer(scrubRate)
	for ctx.Err() == nil {
		if c.scrubSuspects(ctx, compact) || c.compactDirtiest(ctx, compact) || c.scrubNext(ctx, scrub) {
			continue
		}
		select {
		case <-time.After(keepEvery):
		case <-ctx.Done():
		}
	}
}

// pacer spreads work over time.
func pacer(bytesPerSecond int64) store.Pace {
	var free time.Time // when the bytes so far should have been done
	return func(ctx context.Context, n int64) error {
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		wait := free.Sub(now)
		free = free.Add(time.Duration(n) * time.Second / time.Duration(bytesPerSecond))
		if wait <= 0 {
			return ctx.Err()
		}
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// scrubSuspects looks at once at what a reader has stumbled over.
func (c *Catalog) scrubSuspects(ctx context.Context, pace store.Pace) (did bool) {
	c.eachLog(ctx, func(t *Topic, part int, l *store.Log) {
		if !l.Suspect() {
			return
		}
		did = true
		if err := l.ScrubSuspect(ctx, pace); err != nil && ctx.Err() == nil {
			c.opts.Log.Warn("scrub", "topic", t.Name, "partition", part, "err", err)
		}
		c.counts.scrubbed.Add(1)
	})
	return did
}

// compactDirtiest compacts the log of which most was never compacted. One
// that fails is left alone for a while.
func (c *Catalog) compactDirtiest(ctx context.Context, pace store.Pace) bool {
	var best *store.Log
	var name string
	var number int
	most := -1.0
	c.eachLog(ctx, func(t *Topic, part int, l *store.Log) {
		if time.Since(c.failed[l]) < compactAgain {
			return
		}
		if dirty, due := l.CompactionDue(); due && dirty > most {
			best, most, name, number = l, dirty, t.Name, part
		}
	})
	if best == nil {
		return false
	}
	delete(c.failed, best)
	done, err := best.Compact(ctx, pace)
	c.counts.compactions.Add(1)
	c.counts.read.Add(done.Read)
	c.counts.written.Add(done.Written)
	c.counts.freed.Add(done.Freed)
	if err != nil && ctx.Err() == nil {
		c.failed[best] = time.Now()
		c.opts.Log.Warn("compact", "topic", name, "partition", number, "err", err)
	}
	if done.Unreadable > 0 {
		c.opts.Log.Warn("compaction left batches that cannot be decompressed", "topic", name, "partition", number, "batches", done.Unreadable)
	}
	return true
}

// compactAgain is how long a log that could not be compacted is left alone.
const compactAgain = 5 * time.Minute

// scrubNext verifies the next segment of all, in an order that does not change,
// and remembers the place.
func (c *Catalog) scrubNext(ctx context.Context, pace store.Pace) bool {
	at := c.age.scrub()
	if at.Done && c.age.now()-at.Began < scrubEvery.Milliseconds() {
		return false
	}
	if at.Done {
		at = scrubbing{Began: c.age.now()}
	}
	for _, t := range c.All() {
		if t.Name < at.Topic {
			continue
		}
		for i, p := range t.Partitions {
			if (t.Name == at.Topic && int32(i) < at.Partition) || p.Log == nil {
				continue
			}
			from := int64(0)
			if t.Name == at.Topic && int32(i) == at.Partition {
				from = at.Offset
			}
			next, err := p.Log.Scrub(ctx, pace, from)
			if ctx.Err() != nil {
				return true
			}
			if err != nil {
				c.opts.Log.Warn("scrub", "topic", t.Name, "partition", i, "err", err)
				continue
			}
			if next >= 0 {
				c.counts.scrubbed.Add(1)
				c.age.setScrub(scrubbing{Began: at.Began, Topic: t.Name, Partition: int32(i), Offset: next})
				return true
			}
		}
	}
	at.Done = true
	c.age.setScrub(scrubbing{Began: at.Began, Done: true})
	return false
}

// Damaged counts the places in all logs that cannot be read any more.
func (c *Catalog) Damaged() (n int) {
	c.eachLog(context.Background(), func(_ *Topic, _ int, l *store.Log) { n += l.Damaged() })
	return n
}
