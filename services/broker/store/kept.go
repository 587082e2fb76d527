package store

import (
	"cmp"
	"slices"

	"github.com/waysideos/wayside/services/vfs"
)

// kept is what housekeeping remembers of a log across restarts, in the
// checkpoint. Losing it loses no record: compaction begins anew, damage is
// found again, and everything counts as just written.
type kept struct {
	// First and Last are the log's age at the first and last append to the
	// active segment.
	First int64 `json:"f,omitempty"`
	Last  int64 `json:"l,omitempty"`
	// Sealed are the newest sealed segments, at most maxSealedAt.
	Sealed  []sealedAt  `json:"s,omitempty"`
	Cleaned []cleanedTo `json:"c,omitempty"` // see compact.go
	Damaged []Damage    `json:"d,omitempty"` // by position
}

// sealedAt is what is worth knowing of a sealed segment without opening its
// files.
type sealedAt struct {
	Base  int64 `json:"b"`
	Ms    int64 `json:"m"` // largest timestamp; -1 when not known
	First int64 `json:"f"`
	Last  int64 `json:"l"`
}

// maxSealedAt bounds what every checkpoint has to write. What lies further
// back is taken to be as old as the oldest that is remembered.
const maxSealedAt = 1000

// remember fills in what a checkpoint at c keeps. When the active segment is
// being sealed by c, it is among the sealed ones already.
func (l *Log) remember(c checkpoint) kept {
	k := kept{Cleaned: l.keep.cleaned, Damaged: l.keep.damaged}
	segs := l.sealed[max(0, len(l.sealed)-maxSealedAt):]
	for _, s := range segs {
		k.Sealed = append(k.Sealed, s.remembered())
	}
	if c.Segment > l.act.base {
		k.Sealed = append(k.Sealed, l.act.seal().remembered())
		k.First, k.Last = l.age, l.age
	} else {
		k.First, k.Last = l.act.first, l.act.last
	}
	return k
}

func (s segment) remembered() sealedAt {
	r := sealedAt{Base: s.base, Ms: -1, First: s.first, Last: s.last}
	if s.hasTime && s.newestMs < unknownMs {
		r.Ms = s.newestMs
	}
	return r
}

// recall takes back what a checkpoint remembers. A segment that it does not
// know lies before all that it knows, or is new to it.
func (l *Log) recall(k *kept, segs []segment) {
	for i := range segs {
		segs[i].first, segs[i].last = l.age, l.age
	}
	if k == nil || !k.sound() {
		return
	}
	l.keep.cleaned, l.keep.damaged = k.Cleaned, k.Damaged
	for i := range segs {
		s := &segs[i]
		at, ok := slices.BinarySearchFunc(k.Sealed, s.base, func(a sealedAt, base int64) int { return cmp.Compare(a.Base, base) })
		switch {
		case ok:
			r := k.Sealed[at]
			s.newestMs, s.hasTime = r.Ms, r.Ms >= 0
			s.first, s.last = min(r.First, l.age), min(r.Last, l.age)
		case at < len(k.Sealed):
			s.first = min(k.Sealed[at].First, l.age)
			s.last = s.first
		case s.base == l.saved.Segment:
			s.first, s.last = min(k.First, l.age), min(k.Last, l.age)
		}
	}
}

// sound looks at what would lead recovery astray.
func (k *kept) sound() bool {
	last := int64(0)
	for _, d := range k.Damaged {
		if d.Segment < last || d.Pos < 0 || d.End < d.Pos || d.From < d.Segment || d.To < d.From || d.To-d.Segment > 1<<40 {
			return false
		}
		last = d.Segment
	}
	return true
}

// tick moves the log's age on: the time, in ms, that a broker has been
// running on it. It is not a wall clock, so that one that jumps makes nothing
// old; nor does time switched off. l.mu is held.
func (l *Log) tick() int64 {
	if l.opts.Age != nil {
		l.age = max(l.age, l.opts.Age()+l.keep.ageFrom)
		return l.age
	}
	now := l.opts.Now()
	d := now.Sub(l.ticked)
	if d < 0 || d > maxTick {
		l.ticked = now
		d = min(max(d, 0), maxTick)
	} else {
		d = d.Truncate(1e6)
		l.ticked = l.ticked.Add(d)
	}
	l.age += d.Milliseconds()
	return l.age
}

// keeping is the state of housekeeping; Log.mu guards it.
type keeping struct {
	ageFrom  int64 // what Options.Age lacks of the log's age
	cleaned  []cleanedTo
	damaged  []Damage
	mark     vfs.File // see mark.go; nil until the first sync
	suspect  int64    // 1 + base of a segment to be scrubbed soon
	swapping int64    // 1 + base of the last segment that is being replaced
	// gaps: without a checkpoint nobody knows which segments were compacted, so
	// that while recovering they may all have gaps.
	gaps    bool
	rereads rereads
}

// aged notes an append to the active segment.
func (l *Log) aged() {
	l.act.last = l.tick()
	if l.act.size == 0 {
		l.act.first = l.act.last
	}
}

// cleanedTo says when compaction first reached up to before an offset.
type cleanedTo struct {
	Offset int64 `json:"o"`
	Age    int64 `json:"a"` // the log's age then
	// Tombstones and markers first met then, which go when they are old.
	Passing int64 `json:"n,omitempty"`
}
