package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/waysideos/wayside/services/vfs"
)

// Damage is a range of a segment that holds no readable batch any more: bits
// that have rotted, sectors that cannot be read. It stays where it is until
// the segment is deleted or compacted; reading goes on behind it, so that a
// consumer finds a gap in the offsets as compaction leaves them too.
type Damage struct {
	Segment int64 `json:"b"` // its base offset
	Pos     int64 `json:"p"` // first byte
	End     int64 `json:"e"` // byte behind it
	From    int64 `json:"f"` // offsets lost: from this one
	To      int64 `json:"t"` // up to before this one
}

func (d Damage) String() string {
	return fmt.Sprintf("segment %020d, bytes %d to %d, offsets %d to %d", d.Segment, d.Pos, d.End, d.From, d.To-1)
}

// addDamage remembers d. What it overlaps becomes part of it. l.mu is held;
// the next checkpoint makes it durable.
func (l *Log) addDamage(d Damage) {
	out := l.keep.damaged[:0:0]
	for _, o := range l.keep.damaged {
		if o.Segment != d.Segment || o.End < d.Pos || o.Pos > d.End {
			out = append(out, o)
			continue
		}
		d.Pos, d.End = min(d.Pos, o.Pos), max(d.End, o.End)
		d.From, d.To = min(d.From, o.From), max(d.To, o.To)
	}
	out = append(out, d)
	slices.SortFunc(out, func(a, b Damage) int {
		return cmp.Or(cmp.Compare(a.Segment, b.Segment), cmp.Compare(a.Pos, b.Pos))
	})
	l.keep.damaged = out
}

// damagedIn returns the damaged ranges of a segment. The slice is never
// changed.
func (l *Log) damagedIn(base int64) []Damage {
	all := l.keep.damaged
	i := sort.Search(len(all), func(i int) bool { return all[i].Segment >= base })
	j := sort.Search(len(all), func(i int) bool { return all[i].Segment > base })
	return all[i:j:j]
}

// forgetDamage drops the damage of segments that are gone: those that begin
// in [from, to) but for keep.
func (l *Log) forgetDamage(from, to int64) {
	if len(l.keep.damaged) == 0 {
		return
	}
	l.keep.damaged = slices.DeleteFunc(slices.Clone(l.keep.damaged), func(d Damage) bool {
		return d.Segment >= from && d.Segment < to
	})
}

// skip returns the first position from pos on that is not damaged.
func skip(bad []Damage, pos int64) int64 {
	for _, d := range bad {
		if pos >= d.Pos && pos < d.End {
			pos = d.End
		}
	}
	return pos
}

// whole returns up to where, at most limit, nothing is damaged behind pos.
func whole(bad []Damage, pos, limit int64) int64 {
	for _, d := range bad {
		if d.Pos >= pos {
			limit = min(limit, d.Pos)
		}
	}
	return limit
}

// errReplaced: compaction has put another segment in the place of the one that
// was being read; the caller looks again.
var errReplaced = errors.New("segment was replaced")

// seek finds, from the batch that holds offset on, the first for which found
// says yes. An index that leads nowhere is not believed; damage that nobody
// knew of is looked into soon.
func (l *Log) seek(v *view, offset int64, found func(Header) bool) (int64, *Header, error) {
	pos, err := l.position(v, offset)
	if err != nil {
		return 0, nil, err
	}
	if !l.current(v) {
		return 0, nil, errReplaced
	}
	at, h, err := walk(v, pos, found)
	if pos > 0 && errors.Is(err, ErrCorrupt) {
		at, h, err = walk(v, 0, found)
	}
	if errors.Is(err, ErrCorrupt) {
		l.suspectSegment(v.seg.base)
	}
	return at, h, err
}

// current reports whether a view's index files are those of its segment.
func (l *Log) current(v *view) bool {
	if v.active {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.sealedAt(v.seg.base)
	return ok && l.sealed[i].version == v.seg.version
}

// sealedAt finds a sealed segment by its base offset.
func (l *Log) sealedAt(base int64) (int, bool) {
	return slices.BinarySearchFunc(l.sealed, base, func(s segment, base int64) int { return cmp.Compare(s.base, base) })
}

// finder looks for whole batches behind damage.
type finder struct {
	f     io.ReaderAt
	limit int64 // position up to which to look
	// A batch counts only if its offsets lie in [first, below).
	first, below int64
	checked      int64       // bytes; at most searchBudget
	stop         func() bool // true ends the search; nil is never
}

// searchBudget bounds a search: values made to look like a thousand headers
// must not keep a box from starting.
const searchBudget = 1 << 30

// next returns the first position from pos on where a whole batch lies that
// is followed by another or by the limit: what a record's value holds may look
// like a batch too. A damaged batch whose own header is whole says where the
// next one is, and is believed first.
func (s *finder) next(pos int64) (int64, Header, bool) {
	if h, err := s.header(pos); err == nil && h.BaseOffset == s.first && pos+h.Size() < s.limit {
		if n, ok := s.batch(pos + h.Size()); ok && s.chained(pos+h.Size(), n) {
			return pos + h.Size(), n, true
		}
	}
	buf := make([]byte, scanChunk)
	for pos++; pos+HeaderSize <= s.limit && (s.stop == nil || !s.stop()); {
		n := readTolerant(s.f, buf[:min(int64(len(buf)), s.limit-pos)], pos)
		for i := 0; i+HeaderSize <= n; i++ {
			if buf[i+magicAt] != 2 || !s.plausible(buf[i:]) {
				continue
			}
			at := pos + int64(i)
			if h, ok := s.batch(at); ok && s.chained(at, h) {
				return at, h, true
			}
		}
		pos += int64(n) - HeaderSize + 1
	}
	return 0, Header{}, false
}

// plausible looks at what costs nothing: nearly every position fails here.
func (s *finder) plausible(b []byte) bool {
	base := int64(binary.BigEndian.Uint64(b))
	size := int64(int32(binary.BigEndian.Uint32(b[8:])))
	return base >= s.first && base < s.below && size >= HeaderSize-prefixSize
}

func (s *finder) header(pos int64) (Header, error) {
	b := make([]byte, HeaderSize)
	if n, err := s.f.ReadAt(b, pos); n < len(b) {
		return Header{}, fmt.Errorf("read header: %v", err)
	}
	return ParseHeader(b)
}

// batch reads the whole batch at pos.
func (s *finder) batch(pos int64) (Header, bool) {
	h, err := s.header(pos)
	if err != nil || h.BaseOffset < s.first || h.LastOffset() >= s.below || pos+h.Size() > s.limit {
		return h, false
	}
	if s.checked += h.Size(); s.checked > searchBudget {
		return h, false
	}
	return h, verify(s.f, "", pos, h) == nil
}

func (s *finder) chained(pos int64, h Header) bool {
	if pos += h.Size(); pos == s.limit {
		return true
	}
	n, ok := s.batch(pos)
	return ok && n.BaseOffset > h.LastOffset()
}

// unreadable is what the kernel can read at once or not at all, in bytes.
const unreadable = 4096

// readTolerant fills b from position pos; what cannot be read is zeros. It
// returns how much lies before the end of the file.
func readTolerant(f io.ReaderAt, b []byte, pos int64) int {
	n, err := f.ReadAt(b, pos)
	if err == nil || err == io.EOF {
		return n
	}
	for at := 0; at < len(b); {
		end := min(len(b), at+unreadable-int((pos+int64(at))%unreadable))
		n, err := f.ReadAt(b[at:end], pos+int64(at))
		if err == io.EOF {
			return at + n
		}
		if err != nil {
			clear(b[at:end])
		}
		at = end
	}
	return len(b)
}

// dropCache lets the operating system forget a range that was read once.
func dropCache(f vfs.File, off, n int64) {
	if h, ok := f.(*handle); ok {
		f = h.File
	}
	if d, ok := f.(vfs.CacheDropper); ok {
		d.DropCache(off, n)
	}
}

// Damaged is how many places cannot be read any more; Stats says which.
func (l *Log) Damaged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.keep.damaged)
}
