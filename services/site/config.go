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
	"cleanup.policy":                          someOf("delete", "compact"),
	"compression.gzip.level":                  whole(-1, 9),
	"compression.lz4.level":                   whole(1, 17),
	"compression.type":                        oneOf("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"),
	"compression.zstd.level":                  whole(-131072, 22),
	"delete.retention.ms":                     whole(0, math.MaxInt64),
	"file.delete.delay.ms":                    whole(0, math.MaxInt64),
	"flush.messages":                          whole(1, math.MaxInt64),
	"flush.ms":                                whole(0, math.MaxInt64),
	"follower.replication.throttled.replicas": replicaList,
	"index.interval.bytes":                    whole(0, math.MaxInt32),
	"leader.replication.throttled.replicas":   replicaList,
	"max.compaction.lag.ms":                   whole(1, math.MaxInt64),
	"max.message.bytes":                       whole(0, 16<<20),
	"message.timestamp.after.max.ms":          whole(0, math.MaxInt64),
	"message.timestamp.before.max.ms":         whole(0, math.MaxInt64),
	"message.timestamp.type":                  oneOf("CreateTime", "LogAppendTime"),
	"min.cleanable.dirty.ratio":               ratio,
	"min.compaction.lag.ms":                   whole(0, math.MaxInt64),
	"min.insync.replicas":                     whole(1, 3),
	"preallocate":                             oneOf("true", "false"),
	"retention.bytes":                         whole(-1, math.MaxInt64),
	"retention.ms":                            whole(-1, math.MaxInt64),
	"segment.bytes":                           whole(14, 1<<30),
	"segment.index.bytes":                     whole(4, math.MaxInt32),
	"segment.jitter.ms":                       whole(0, math.MaxInt64),
	"segment.ms":                              whole(1, math.MaxInt64),
	"unclean.leader.election.enable":          oneOf("true", "false"),
	"wayside.durability":                      oneOf("sync", "write"),
	"wayside.full":                            oneOf("block", "drop-oldest", "drop-read"),
	"wayside.full.group":                      groupName,
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
	c.key(at, "", "unknown topic configuration; docs/site-profile.md lists those known here")
}

func whole(lo, hi int64) rule {
	return func(s string) fault {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= lo && n <= hi {
			return fault{}
		}
		if hi == math.MaxInt64 {
			return faultf("want a whole number from %d", lo)
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
		return fault{"want one of " + strings.Join(words, ", "), nearest(s, words)}
	}
}

// replicaList is partition:broker,..., which the one broker does not look at.
func replicaList(s string) fault {
	if most := 8 * maxPartitions; len(s) > most {
		return faultf("has %d characters, the most is %d", len(s), most)
	}
	return fault{}
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
