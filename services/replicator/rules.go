package replicator

import (
	"strings"

	"github.com/waysideos/wayside/services/site"
)

// Words of a rule's topic name at the destination.
const (
	topicWord = "{topic}"
	siteWord  = "{site}"
)

// rules says which topics a lane carries and what they are called at the
// destination.
type rules struct {
	topics []string // names; a trailing * matches a prefix
	to     string   // name at the destination, with {topic} in it
	hidden string   // a topic that no pattern matches
}

// internal begin the names of topics that are nobody's records: the broker's
// own (__consumer_offsets), those of links, and the state of connectors.
var internal = []string{"__", ownTopics, "wayside-connect.", "wayside-mqtt"}

// match reports whether a topic is carried. A pattern matches no internal
// topic; a name may.
func (r rules) match(topic string) bool {
	hidden := topic == r.hidden
	for _, prefix := range internal {
		hidden = hidden || strings.HasPrefix(topic, prefix)
	}
	for _, want := range r.topics {
		if want == topic || site.Matches(want, topic) && !hidden {
			return true
		}
	}
	return false
}

func isPattern(topic string) bool { return strings.HasSuffix(topic, "*") }

func (r rules) destination(topic string) string { return strings.ReplaceAll(r.to, topicWord, topic) }
