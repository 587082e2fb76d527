package filesink

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/waysideos/wayside/services/connect"
)

// place is a partition.
type place struct {
	topic     string
	partition int32
}

// position is what is in complete files. As it is committed: JSON, format 1.
type position struct {
	Version    int     `json:"version"`
	Partitions []*mark `json:"partitions"`
	Pending    *ending `json:"pending,omitempty"`
}

// mark is how far one partition is in complete files.
type mark struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Next      int64  `json:"next"` // offset
	// Opened is when the file was begun that follows, in ms since 1970; 0 for
	// none. A box that is switched off each night completes its files too.
	Opened int64 `json:"opened,omitempty"`
}

// ending is a file that is whole and on the disk and gets its name.
type ending struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Next      int64  `json:"next"` // behind its last record
	Part      string `json:"part"` // its name before
	Name      string `json:"name"`
	Size      int64  `json:"size"` // bytes
}

func parsePosition(data []byte) (*position, error) {
	p := &position{Version: 1}
	if err := connect.ParsePosition(data, p, &p.Version); err != nil {
		return nil, err // going on from nothing would write every record again
	}
	return p, nil
}

func (p *position) marshal() ([]byte, error) { return json.Marshal(p) }

// of is a partition's mark, which it makes.
func (p *position) of(at place, next int64) *mark {
	i := slices.IndexFunc(p.Partitions, func(m *mark) bool { return m.Topic == at.topic && m.Partition == at.partition })
	if i >= 0 {
		return p.Partitions[i]
	}
	m := &mark{Topic: at.topic, Partition: at.partition, Next: next}
	p.Partitions = append(p.Partitions, m)
	return m
}

// opened is when the file under way was begun, which is no later than now.
func (m *mark) opened(now time.Time) time.Time {
	if at := time.UnixMilli(m.Opened); m.Opened != 0 && at.Before(now) {
		return at
	}
	return now
}

// done is after a file has its name.
func (p *position) done(e *ending) {
	m := p.of(place{e.Topic, e.Partition}, 0)
	m.Next, m.Opened = e.Next, 0
	p.Pending = nil
}
