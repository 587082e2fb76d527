package group

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// topics is what there is to subscribe to.
type topics struct {
	loaded  bool
	version uint64
	byName  map[string]topic
}

type topic struct {
	id         meta.ID
	partitions int32
}

// view is the topics as they are now.
func (m *Manager) view() *topics {
	if v := m.Meta.TopicsVersion(); !m.topics.loaded || v != m.topics.version {
		m.topics = topics{loaded: true, version: v, byName: map[string]topic{}}
		for _, t := range m.Meta.Topics() {
			m.topics.byName[t.Name] = topic{t.ID, t.Partitions}
		}
	}
	return &m.topics
}

// Bounds of a regular expression: in bytes, and of what it becomes. Ours (RE2)
// run in linear time, but a repetition is compiled as so many copies.
const (
	maxRegex   = 8 << 10
	maxProgram = 10_000
)

// Regexp compiles an expression of a client for whole names, as Kafka does.
func Regexp(expr string) (*regexp.Regexp, error) {
	if len(expr) > maxRegex {
		return nil, kerr.InvalidRegularExpression
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil || cost(tree) > maxProgram {
		return nil, kerr.InvalidRegularExpression
	}
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return nil, kerr.InvalidRegularExpression
	}
	return re, nil
}

// cost is about how many instructions an expression becomes.
func cost(r *syntax.Regexp) int {
	n := 1 + len(r.Rune)
	for _, sub := range r.Sub {
		n += cost(sub)
	}
	if r.Op == syntax.OpRepeat {
		n *= max(r.Min, r.Max, 1)
	}
	return n
}

// resolve finds the topics that a regular expression stands for, if they may
// have changed since it was resolved, and reports whether they have.
func (c *consumerGroup) resolve(expr string, may func(string) bool) (changed bool, err error) {
	view := c.m.view()
	if at, ok := c.resolved[expr]; expr == "" || ok && at == view.version {
		return false, nil
	}
	re, err := Regexp(expr)
	if err != nil {
		return false, err
	}
	var names []string
	for name := range view.byName {
		if re.MatchString(name) && (may == nil || may(name)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	was, known := c.regexes[expr]
	if err := c.room(listBytes(names) - listBytes(was)); err != nil {
		return false, err
	}
	c.resolved[expr] = view.version
	if known && slices.Equal(was, names) {
		return false, nil
	}
	c.charges(listBytes(names) - listBytes(was))
	c.regexes[expr] = names
	c.regexesDirty = true
	return true, nil
}

func listBytes(names []string) int {
	n := 0
	for _, s := range names {
		n += 20 + len(s)
	}
	return n
}

// dropRegexes forgets what no member asks for any more.
func (c *consumerGroup) dropRegexes() {
	if len(c.regexes) == 0 {
		return
	}
	used := map[string]bool{}
	for _, mem := range c.members {
		used[mem.regex] = true
	}
	maps.DeleteFunc(c.regexes, func(expr string, names []string) bool {
		if used[expr] {
			return false
		}
		c.charges(-listBytes(names))
		delete(c.resolved, expr)
		c.regexesDirty = true
		return true
	})
}

// subscription is all that a member subscribes to, by name, whether it exists
// or not.
func (c *consumerGroup) subscription(mem *consumerMember) []string {
	found := c.regexes[mem.regex]
	if len(found) == 0 {
		return mem.topics
	}
	if len(mem.topics) == 0 {
		return found
	}
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(mem.topics, found))))
}

// topicsChanged reports whether a subscribed topic was made, deleted or grown
// since the targets were computed.
func (c *consumerGroup) topicsChanged() bool {
	v := c.m.view().version
	if c.seen == v && v != 0 {
		return false
	}
	if c.topicsHash() != c.hash {
		return true
	}
	c.seen = v
	return false
}

func (c *consumerGroup) topicsHash() uint64 {
	view := c.m.view()
	names := map[string]bool{}
	for _, mem := range c.members {
		for _, t := range c.subscription(mem) {
			names[t] = true
		}
	}
	h := fnv.New64a()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if t, ok := view.byName[name]; ok {
			h.Write([]byte(name))
			h.Write(t.id[:])
			h.Write(binary.BigEndian.AppendUint32(nil, uint32(t.partitions)))
		}
	}
	return h.Sum64()
}

// subscribed adds the topics that a classic consumer's metadata names; false
// when it cannot be read.
func subscribed(metadata []byte, to map[string]bool) bool {
	var m kmsg.ConsumerMemberMetadata
	if m.ReadFrom(metadata) != nil {
		return false
	}
	for _, t := range m.Topics {
		to[t] = true
	}
	return true
}
