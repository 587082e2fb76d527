package broker

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/services/manifest"
)

// Status is what the broker says of itself, for the technician.
func (b *Broker) Status() manifest.Report {
	b.mu.Lock()
	p := b.parts
	b.mu.Unlock()
	r := manifest.Report{Name: "broker", OK: true}
	if p == nil {
		r.OK, r.Summary = false, "starting"
		return r
	}
	topics, partitions, bytes := 0, 0, int64(0)
	problems := slices.Clone(b.cfg.Problems)
	for _, t := range p.catalog.All() {
		topics++
		for i, part := range t.Partitions {
			partitions++
			err := part.Err
			if part.Log != nil {
				s := part.Log.Stats()
				bytes, err = bytes+s.Bytes, s.Err
				for _, d := range s.Damaged {
					problems = append(problems, manifest.Fact{Name: fmt.Sprintf("%s-%d is damaged", t.Name, i), Value: d.String() + "; consumers go on behind it"})
				}
			}
			if err != nil {
				problems = append(problems, manifest.Fact{Name: fmt.Sprintf("%s-%d is read-only", t.Name, i), Value: err.Error()})
			}
		}
	}
	if l, lost := unseenLoss(p.meta, p.catalog); lost {
		problems = append(problems, tell(l))
	}
	if strays := p.catalog.Strays(); len(strays) > 0 {
		problems = append(problems, manifest.Fact{Name: "there are records of no topic", Value: strings.Join(strays, ", ") + ": what the broker knew of them is lost; move them away"})
	}
	if err := p.meta.Err(); err != nil {
		problems = append(problems, manifest.Fact{Name: "topics and commits are read-only", Value: err.Error()})
	}
	full, free := b.space.full()
	if full {
		problems = append(problems, manifest.Fact{Name: "disk is full", Value: fmt.Sprintf("%d bytes are free; producers are told to try again", free)})
	}
	r.OK = len(problems) == 0
	r.Summary = fmt.Sprintf("%d topics, %d partitions, %d connections", topics, partitions, p.server.Open())
	if !r.OK {
		r.Summary = problems[0].Name + "; " + r.Summary
	}
	r.Facts = append(problems,
		manifest.Fact{Name: "topics", Value: strconv.Itoa(topics)},
		manifest.Fact{Name: "partitions", Value: strconv.Itoa(partitions)},
		manifest.Fact{Name: "bytes on disk", Value: strconv.FormatInt(bytes, 10)},
		manifest.Fact{Name: "connections", Value: strconv.Itoa(p.server.Open())},
	)
	if n := b.dropped.bytes.Load(); n > 0 {
		r.Facts = append(r.Facts, manifest.Fact{Name: "bytes dropped for room", Value: strconv.FormatInt(n, 10)})
	}
	r.Flows = []manifest.Flow{
		{From: "producers", To: "log", Records: b.metrics.RecordsIn.Value(), Bytes: b.metrics.RecordBytesIn.Value()},
	}
	return r
}
