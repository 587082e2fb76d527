package mqtt

import (
	"fmt"
	"strings"

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
	header := func(name string) string {
		for _, h := range r.Headers {
			if h.Key == name {
				return string(h.Value)
			}
		}
		return ""
	}
	topic, err := p.name(string(r.Key), header)
	if err != nil {
		return nil, err
	}
	return &message{
		topic: topic, payload: r.Value, qos: byte(p.QoS), retain: p.Retain,
		at: place{part{r.Topic, r.Partition}, r.Offset},
	}, nil
}

// name puts key, Kafka topic and headers into the template.
func (p *publication) name(key string, header func(string) string) (string, error) {
	var b strings.Builder
	rest := p.To
	for {
		before, after, found := strings.Cut(rest, "{")
		b.WriteString(before)
		if !found {
			break
		}
		word, behind, closed := strings.Cut(after, "}")
		if !closed {
			return "", fmt.Errorf("template %q: a brace is not closed", p.To)
		}
		name, isHeader := strings.CutPrefix(word, "header:")
		value := ""
		switch {
		case isHeader:
			value = header(name)
		case word == "key":
			value = key
		case word == "topic":
			value = p.Topic
		default:
			return "", fmt.Errorf("template %q: {%s} is none of {key}, {topic}, {header:NAME}", p.To, word)
		}
		if value == "" {
			return "", fmt.Errorf("a record has no %s, which topic %q is made of", word, p.To)
		}
		b.WriteString(value)
		rest = behind
	}
	return b.String(), checkTopic(b.String())
}

func parsePublications(ps []site.Publication) ([]publication, error) {
	out := make([]publication, len(ps))
	for i, p := range ps {
		out[i] = publication{p}
		if p.Topic == "" || p.QoS < 0 || p.QoS > 2 {
			return nil, fmt.Errorf("publication %d: want a Kafka topic and a QoS of 0, 1 or 2", i+1)
		}
		if _, err := out[i].name("k", func(string) string { return "h" }); err != nil {
			return nil, fmt.Errorf("publication of %s: %w", p.Topic, err)
		}
	}
	return out, nil
}
