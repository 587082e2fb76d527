package catalog

import "github.com/waysideos/wayside/services/broker/store"

// DropsOldest reports whether the topic's oldest segments give way when the
// disk or its share for records is full. One that is only compacted holds
// state: its oldest records are as current as its newest, so it never does.
func (t *Topic) DropsOldest() bool {
	return t.settings.Compaction.Delete && t.Value("wayside.full") == "drop-oldest"
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
	oldest store.Oldest
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
		for _, p := range t.Partitions {
			if p.Log == nil {
				continue
			}
			if o, ok := p.Log.Oldest(); ok {
				all = append(all, candidate{p.Log, o})
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
		next, ok := all[at].log.Oldest()
		if all[at].oldest = next; !ok || next.End == gone.End {
			all[at] = all[len(all)-1]
			all = all[:len(all)-1]
		}
	}
	return bytes, segments
}
