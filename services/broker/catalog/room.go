package catalog

import (
	"math"

	"github.com/waysideos/wayside/services/broker/store"
)

// DropsOldest reports whether the topic's oldest segments give way when the
// disk or its share for records is full. One that is only compacted holds
// state: its oldest records are as current as its newest, so it never does.
func (t *Topic) DropsOldest() bool {
	full := t.Value("wayside.full")
	return t.settings.Compaction.Delete && (full == "drop-oldest" || full == "drop-read")
}

// mayDrop is the offset up to which the oldest records of a partition may
// give way: with drop-read, what the topic's group has committed.
func (c *Catalog) mayDrop(t *Topic, part int32) int64 {
	if !t.givesWay {
		return math.MaxInt64
	}
	o, _ := c.meta.Offset(t.Value("wayside.full.group"), t.Name, part)
	return o.Offset
}

// Bytes is the size of all logs.
func (c *Catalog) Bytes() int64 {
	var n int64
	for _, t := range c.All() {
		for _, p := range t.Partitions {
			if p.Log != nil {
				n += p.Log.Stats().Bytes
			}
		}
	}
	return n
}

// candidate is a log with a segment that may go.
type candidate struct {
	log    *store.Log
	limit  int64 // see mayDrop
	oldest store.Oldest
}

// next looks at the oldest segment; false if there is none that may go.
func (d *candidate) next() (ok bool) {
	d.oldest, ok = d.log.Oldest()
	return ok && d.oldest.End <= d.limit
}

// DropOldest deletes sealed segments of topics that allow it, the oldest of
// all first, until need bytes are free or there is none left. It returns how
// many bytes and segments went.
func (c *Catalog) DropOldest(need int64) (bytes int64, segments int) {
	var all []candidate
	for _, t := range c.All() {
		if !t.DropsOldest() {
			continue
		}
		for i, p := range t.Partitions {
			if p.Log == nil {
				continue
			}
			if d := (candidate{log: p.Log, limit: c.mayDrop(t, int32(i))}); d.next() {
				all = append(all, d)
			}
		}
	}
	for bytes < need && len(all) > 0 {
		at := 0
		for i := range all {
			if all[i].oldest.AgeMs > all[at].oldest.AgeMs {
				at = i
			}
		}
		gone := all[at].oldest
		if err := all[at].log.Trim(gone.End); err != nil {
			c.opts.Log.Warn("drop the oldest segment of a log", "err", err)
		} else {
			bytes, segments = bytes+gone.Bytes, segments+1
		}
		if !all[at].next() || all[at].oldest.End == gone.End {
			all[at] = all[len(all)-1]
			all = all[:len(all)-1]
		}
	}
	return bytes, segments
}
