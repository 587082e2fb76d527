package replicator

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/replicator/rule"
	"github.com/waysideos/wayside/services/site"
)

// Preview is what one rule of a link would make of some records of a topic.
type Preview struct {
	Link    string    `json:"link"`
	Rule    string    `json:"rule,omitempty"` // "" is the topic carried as it is
	Topic   string    `json:"topic"`
	To      string    `json:"to"`
	In      Amount    `json:"in"`
	Out     Amount    `json:"out"`
	Late    int64     `json:"late,omitempty"` // records that came after their window had closed
	Records []Outcome `json:"records"`
}

// Amount counts records, and bytes of keys and values, before compression.
type Amount struct {
	Records int `json:"records"`
	Bytes   int `json:"bytes"`
}

func (a *Amount) add(r *kgo.Record) {
	a.Records++
	a.Bytes += len(r.Key) + len(r.Value)
}

// Outcome is what becomes of one record. Out holds the values that are
// carried: one, none, or the summaries that the record completes.
type Outcome struct {
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"` // -1: windows that are still open at the end
	Key       string   `json:"key"`
	In        string   `json:"in"`
	Out       []string `json:"out"`
	Error     string   `json:"error,omitempty"` // goes to the dead letters
}

// DryRun carries records of one topic nowhere, by every rule of a link that
// names the topic. The records are in order for each partition.
func DryRun(lc site.Link, siteName, topic string, rs []*kgo.Record) ([]Preview, error) {
	lanes, err := lanesOf(lc, siteName)
	if err != nil {
		return nil, err
	}
	all := []Preview{}
	for _, n := range lanes {
		if n.rules.match(topic) {
			all = append(all, n.dryRun(lc.Name, topic, rs))
		}
	}
	return all, nil
}

func (n *lane) dryRun(link, topic string, rs []*kgo.Record) Preview {
	p := Preview{Link: link, Rule: n.name, Topic: topic, To: n.rules.destination(topic), Records: []Outcome{}}
	windows := map[int32]*rule.Windows{}
	for _, r := range rs {
		p.In.add(r)
		o := Outcome{Partition: r.Partition, Offset: r.Offset, Key: string(r.Key), In: string(r.Value), Out: []string{}}
		switch {
		case n.rule.Windowed():
			if windows[r.Partition] == nil {
				windows[r.Partition] = n.rule.NewWindows(0)
			}
			p.carried(&o, windows[r.Partition].Add(r)...)
		case n.rule.Keep(r):
			value, err := n.rule.Apply(r)
			if err != nil {
				o.Error = err.Error()
				break
			}
			p.carried(&o, &kgo.Record{Key: r.Key, Value: value})
		}
		p.Records = append(p.Records, o)
	}
	for _, num := range sortedKeys(windows) {
		w := windows[num]
		p.Late += w.Late()
		o := Outcome{Partition: num, Offset: -1, Out: []string{}}
		p.carried(&o, w.Flush(time.UnixMilli(1<<52))...)
		if len(o.Out) > 0 {
			p.Records = append(p.Records, o)
		}
	}
	return p
}

func (p *Preview) carried(o *Outcome, rs ...*kgo.Record) {
	for _, r := range rs {
		p.Out.add(r)
		o.Out = append(o.Out, string(r.Value))
	}
}
