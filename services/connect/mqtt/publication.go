package mqtt

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// publication is a site.Publication: records of a Kafka topic that become
// messages. They go to subscribers and through no route, so nothing goes in
// circles.
type publication struct {
	site.Publication
}

// message makes a message of a record.
func (p *publication) message(r *kgo.Record) (*message, error) {
	topic, err := p.MQTTTopic(string(r.Key), func(name string) string {
		for _, h := range r.Headers {
			if h.Key == name {
				return string(h.Value)
			}
		}
		return ""
	})
	if err != nil {
		return nil, err
	}
	return &message{
		topic: topic, payload: r.Value, qos: byte(p.QoS), retain: p.Retain,
		at: place{part{r.Topic, r.Partition}, r.Offset}, borrowed: true,
	}, nil
}

func parsePublications(ps []site.Publication) ([]publication, error) {
	out := make([]publication, len(ps))
	for i, p := range ps {
		out[i] = publication{p}
		if p.Topic == "" || p.QoS < 0 || p.QoS > 2 {
			return nil, fmt.Errorf("publication %d: want a Kafka topic and a QoS of 0, 1 or 2", i+1)
		}
		if _, err := p.MQTTTopic("k", func(string) string { return "h" }); err != nil {
			return nil, fmt.Errorf("publication of %s: %w", p.Topic, err)
		}
	}
	return out, nil
}
