package catalog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Type of a topic configuration, numbered as DescribeConfigs reports it.
type Type int8

// The types in use.
const (
	String Type = 2
	Int    Type = 3
	Long   Type = 5
	Double Type = 6
	List   Type = 7
)

// Def is one topic configuration: what Kafka calls it, its default, and what
// it may be.
type Def struct {
	Name    string
	Type    Type
	Default string
	Doc     string
	min     int64
	max     int64
	oneOf   []string
}

const maxInt64 = 1<<63 - 1

// Defs are the topic configurations that the broker takes, by name. Those
// that it does not act on yet say so in Doc.
var Defs = []Def{
	{Name: "cleanup.policy", Type: List, Default: "delete", oneOf: []string{"delete", "compact", "compact,delete", "delete,compact"},
		Doc: "What happens to old segments. Compaction is accepted and not done yet: a compacted topic keeps everything."},
	{Name: "compression.type", Type: String, Default: "producer", oneOf: []string{"producer"},
		Doc: "Batches are kept as the producer compressed them."},
	{Name: "delete.retention.ms", Type: Long, Default: "86400000", min: 0, max: maxInt64, Doc: "How long compaction keeps tombstones. Not used yet."},
	{Name: "max.message.bytes", Type: Int, Default: "1048588", min: 0, max: 16 << 20, Doc: "The largest record batch, in bytes."},
	{Name: "message.timestamp.type", Type: String, Default: "CreateTime", oneOf: []string{"CreateTime"}, Doc: "Records keep the producer's timestamps."},
	{Name: "min.cleanable.dirty.ratio", Type: Double, Default: "0.5", Doc: "When to compact. Not used yet."},
	{Name: "min.compaction.lag.ms", Type: Long, Default: "0", min: 0, max: maxInt64, Doc: "Youngest age to compact. Not used yet."},
	{Name: "min.insync.replicas", Type: Int, Default: "1", min: 1, max: 1, Doc: "One broker holds the one replica."},
	{Name: "retention.bytes", Type: Long, Default: "-1", min: -1, max: maxInt64, Doc: "Size of a partition beyond which its oldest segments are deleted; -1 is no limit."},
	{Name: "retention.ms", Type: Long, Default: "604800000", min: -1, max: maxInt64, Doc: "Age beyond which segments are deleted; -1 is no limit."},
	{Name: "segment.bytes", Type: Int, Default: "67108864", min: 14, max: 1 << 30, Doc: "Size of a segment file."},
	{Name: "segment.ms", Type: Long, Default: "604800000", min: 1, max: maxInt64, Doc: "Age at which to begin a new segment. Not used yet."},
}

// Lookup finds a topic configuration.
func Lookup(name string) (Def, bool) {
	i := slices.IndexFunc(Defs, func(d Def) bool { return d.Name == name })
	if i < 0 {
		return Def{}, false
	}
	return Defs[i], true
}

// CheckConfig says what is wrong with a topic's configuration.
func CheckConfig(config map[string]string) error {
	for name, value := range config {
		d, ok := Lookup(name)
		if !ok {
			return fmt.Errorf("%w: unknown topic configuration %q", ErrConfig, name)
		}
		if err := d.check(value); err != nil {
			return fmt.Errorf("%w: %s: %v", ErrConfig, name, err)
		}
	}
	return nil
}

func (d Def) check(value string) error {
	switch d.Type {
	case Int, Long:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < d.min || n > d.max {
			return fmt.Errorf("%q is not a number from %d to %d", value, d.min, d.max)
		}
	case Double:
		if f, err := strconv.ParseFloat(value, 64); err != nil || f < 0 || f > 1 {
			return fmt.Errorf("%q is not a number from 0 to 1", value)
		}
	default:
		if !slices.Contains(d.oneOf, strings.ReplaceAll(value, " ", "")) {
			return fmt.Errorf("%q is none of: %s", value, strings.Join(d.oneOf, "; "))
		}
	}
	return nil
}

// Value is a topic's setting or the default.
func Value(config map[string]string, name string) string {
	if v, ok := config[name]; ok {
		return v
	}
	d, _ := Lookup(name)
	return d.Default
}

// number is a numeric setting; its value has been checked when it was set.
func number(config map[string]string, name string) int64 {
	n, _ := strconv.ParseInt(Value(config, name), 10, 64)
	return n
}
