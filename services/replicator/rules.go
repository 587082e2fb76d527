package replicator

import "strings"

// rules says which topics a link carries and what they are called at the
// destination.
type rules struct {
	topics []string // names; a trailing * matches a prefix
	prefix string   // before the name at the destination
}

// match reports whether a topic is carried. A pattern never matches the
// broker's own topics (__consumer_offsets); a name may.
func (r rules) match(topic string) bool {
	for _, want := range r.topics {
		start, wild := strings.CutSuffix(want, "*")
		if want == topic || wild && strings.HasPrefix(topic, start) && !strings.HasPrefix(topic, "__") {
			return true
		}
	}
	return false
}

func (r rules) destination(topic string) string { return r.prefix + topic }
