package rule

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// window is a site.LinkWindow, ready to be used.
type window struct {
	every, grace int64 // ms
	names        []string
	paths        [][]string
	functions    map[string]bool
}

// maxKeys of one window; further keys are summed up under none.
const maxKeys = 10_000

func newWindow(w site.LinkWindow) (*window, error) {
	every, err := time.ParseDuration(w.Every)
	if err != nil || every < time.Millisecond {
		return nil, fmt.Errorf("window of %q is no time", w.Every)
	}
	var grace time.Duration
	if w.Grace != "" {
		if grace, err = time.ParseDuration(w.Grace); err != nil {
			return nil, fmt.Errorf("grace of %q is no time", w.Grace)
		}
	}
	out := &window{every: every.Milliseconds(), grace: grace.Milliseconds(), names: w.Fields, functions: map[string]bool{}}
	for _, f := range w.Fields {
		out.paths = append(out.paths, strings.Split(f, "."))
	}
	for _, f := range w.Functions {
		out.functions[f] = true
	}
	return out, nil
}

// Windows are the open windows of one partition. A window closes when a
// record comes that is later than its end and the grace. Only records'
// timestamps count, so that records read again make the same windows.
type Windows struct {
	rule   *Rule
	open   map[int64]*span // by start, ms
	latest int64           // newest timestamp
	closed int64           // end of the last closed window: what is before it comes too late
	late   int64           // records that came too late
}

// span is one open window.
type span struct {
	first int64 // offset of its first record
	keys  map[string]*sums
}

type sums struct {
	count  int64
	fields []sum
}

type sum struct {
	n                   int64
	sum, min, max, last float64
}

// NewWindows begins; closed is what Closed said of those before, or 0.
func (r *Rule) NewWindows(closed int64) *Windows {
	return &Windows{rule: r, open: map[int64]*span{}, closed: closed, latest: math.MinInt64}
}

// Clone is a copy that can be thrown away.
func (w *Windows) Clone() *Windows {
	c := *w
	c.open = make(map[int64]*span, len(w.open))
	for start, s := range w.open {
		t := &span{s.first, make(map[string]*sums, len(s.keys))}
		for k, v := range s.keys {
			t.keys[k] = &sums{v.count, slices.Clone(v.fields)}
		}
		c.open[start] = t
	}
	return &c
}

// Hold is the offset to read from to have all records of open windows;
// next if none is open.
func (w *Windows) Hold(next int64) int64 {
	for _, s := range w.open {
		next = min(next, s.first)
	}
	return next
}

// Closed is the end of the last closed window, in ms since 1970.
func (w *Windows) Closed() int64 { return w.closed }

// Late is how many records came after their window had closed.
func (w *Windows) Late() int64 { return w.late }

// Add adds a record and returns the summaries of windows that it closes.
func (w *Windows) Add(rec *kgo.Record) []*kgo.Record {
	ts := rec.Timestamp.UnixMilli()
	start := ts - mod(ts, w.rule.window.every)
	switch {
	case !w.rule.Keep(rec):
	case start < w.closed:
		w.late++
	default:
		w.add(start, rec)
	}
	w.latest = max(w.latest, ts)
	return w.close(w.latest - w.rule.window.grace)
}

func mod(a, b int64) int64 { return (a%b + b) % b }

func (w *Windows) add(start int64, rec *kgo.Record) {
	s := w.open[start]
	if s == nil {
		s = &span{first: rec.Offset, keys: map[string]*sums{}}
		w.open[start] = s
	}
	key := string(rec.Key)
	if len(s.keys) >= maxKeys && s.keys[key] == nil {
		key = ""
	}
	k := s.keys[key]
	if k == nil {
		k = &sums{fields: make([]sum, len(w.rule.window.paths))}
		s.keys[key] = k
	}
	k.count++
	v := &value{raw: rec.Value}
	for i, path := range w.rule.window.paths {
		got, _ := v.at(path)
		number, ok := got.(json.Number)
		if !ok {
			continue
		}
		if n, err := number.Float64(); err == nil {
			k.fields[i].add(n)
		}
	}
}

func (s *sum) add(n float64) {
	if s.n == 0 {
		s.min, s.max = n, n
	}
	s.n++
	s.sum += n
	s.min, s.max, s.last = min(s.min, n), max(s.max, n), n
}

// Flush closes windows that have been idle: no record has come, and it is
// later than their end and the grace by this machine's clock.
func (w *Windows) Flush(now time.Time) []*kgo.Record {
	return w.close(now.UnixMilli() - w.rule.window.grace)
}

// close returns the summaries of windows that end at or before a time, the
// earlier ones first, in the order of keys.
func (w *Windows) close(until int64) []*kgo.Record {
	var out []*kgo.Record
	var starts []int64
	for start := range w.open {
		if start+w.rule.window.every <= until {
			starts = append(starts, start)
		}
	}
	slices.Sort(starts)
	for _, start := range starts {
		s := w.open[start]
		delete(w.open, start)
		w.closed = max(w.closed, start+w.rule.window.every)
		var keys []string
		for k := range s.keys {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, cmp.Compare)
		for _, k := range keys {
			out = append(out, w.summary(start, k, s.keys[k]))
		}
	}
	return out
}

// summary is the record that says what a window holds of a key.
func (w *Windows) summary(start int64, key string, s *sums) *kgo.Record {
	win := w.rule.window
	v := map[string]any{"from": start, "to": start + win.every}
	if win.functions["count"] {
		v["count"] = s.count
	}
	for i, name := range win.names {
		f := s.fields[i]
		if f.n == 0 {
			continue
		}
		got := map[string]any{}
		for word, n := range map[string]float64{"sum": f.sum, "min": f.min, "max": f.max, "mean": f.sum / float64(f.n), "last": f.last} {
			if win.functions[word] && !math.IsInf(n, 0) && !math.IsNaN(n) {
				got[word] = n
			}
		}
		if len(got) > 0 {
			v[name] = got
		}
	}
	out := &kgo.Record{Value: encode(v), Timestamp: time.UnixMilli(start + win.every)}
	if key != "" {
		out.Key = []byte(key)
	}
	return out
}
