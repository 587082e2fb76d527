package site

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// topicConfigs is the topic configuration that the box's broker takes, with
// the values of each: a profile that passes here must not stop the broker
// later. A test in cmd/waysided, which may import both, holds this table and
// the broker's own together.
var topicConfigs = map[string]rule{
	"cleanup.policy":            someOf("delete", "compact"),
	"compression.type":          oneOf("producer"),
	"delete.retention.ms":       whole(0, math.MaxInt64),
	"max.message.bytes":         whole(0, 16<<20),
	"message.timestamp.type":    oneOf("CreateTime"),
	"min.cleanable.dirty.ratio": ratio,
	"min.compaction.lag.ms":     whole(0, math.MaxInt64),
	"min.insync.replicas":       whole(1, 1),
	"retention.bytes":           whole(-1, math.MaxInt64),
	"retention.ms":              whole(-1, math.MaxInt64),
	"segment.bytes":             whole(14, 1<<30),
	"segment.ms":                whole(1, math.MaxInt64),
}

// TopicConfigs are the names of the topic configurations a profile may hold,
// sorted.
func TopicConfigs() []string { return slices.Sorted(maps.Keys(topicConfigs)) }

func (c checker) topicConfig(path string, config map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(config)) {
		at := join(path, key)
		rule, known := topicConfigs[key]
		if !known {
			c.unknownConfig(at, key)
			continue
		}
		if f := rule(config[key]); f.reason != "" {
			c.value(at, f.hint, "%s, got %q", f.reason, shorten(config[key]))
		}
	}
}

func (c checker) unknownConfig(at, key string) {
	if hint := nearest(key, TopicConfigs()); hint != "" {
		c.key(at, hint, "unknown topic configuration")
		return
	}
	c.key(at, "", "unknown topic configuration; known here: %s", strings.Join(TopicConfigs(), ", "))
}

func whole(lo, hi int64) rule {
	return func(s string) fault {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= lo && n <= hi {
			return fault{}
		}
		switch hi {
		case math.MaxInt64:
			return faultf("want a whole number from %d", lo)
		case lo:
			return faultf("want %d, all that one broker can do", lo)
		}
		return faultf("want a whole number from %d to %d", lo, hi)
	}
}

func ratio(s string) fault {
	if f, err := strconv.ParseFloat(s, 64); err == nil && f >= 0 && f <= 1 {
		return fault{}
	}
	return faultf("want a number from 0 to 1")
}

func oneOf(words ...string) rule {
	return func(s string) fault {
		if slices.Contains(words, s) {
			return fault{}
		}
		want := "want one of "
		if len(words) == 1 {
			want = "want "
		}
		return fault{want + strings.Join(words, ", "), nearest(s, words)}
	}
}

// someOf is a comma-separated list of the words, each at most once.
func someOf(words ...string) rule {
	return func(s string) fault {
		seen := map[string]bool{}
		for _, w := range strings.Split(s, ",") {
			w = strings.TrimSpace(w)
			if !slices.Contains(words, w) || seen[w] {
				return fault{reason: "want one or more of " + strings.Join(words, ", ")}
			}
			seen[w] = true
		}
		return fault{}
	}
}
