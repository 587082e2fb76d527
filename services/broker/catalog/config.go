package catalog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Type of a configuration, numbered as DescribeConfigs reports it.
type Type int8

// The types in use.
const (
	Bool   Type = 1
	String Type = 2
	Int    Type = 3
	Long   Type = 5
	Double Type = 6
	List   Type = 7
)

// Def is one configuration: what Kafka calls it, its default, and what it may
// be.
type Def struct {
	Name    string
	Type    Type
	Default string
	Doc     string
	// Broker is the broker's configuration that is the default of this one of
	// a topic; empty if there is none.
	Broker string
	// ReadOnly ones are shown and cannot be set by a client.
	ReadOnly bool
	min      int64
	max      int64
	percent  bool     // a share such as 80%
	duration bool     // String: also what ByDuration reads
	words    []string // String: one of them; List: one or more
	text     int      // String or List: any, of so many bytes at most
}

const (
	maxInt32 = 1<<31 - 1
	maxInt64 = 1<<63 - 1
	maxLong  = "9223372036854775807"
	maxGroup = 249 // bytes of a group's name, as of a topic's
	// maxReplicas is for a list of every partition's one replica, as
	// kafka-reassign-partitions makes it: "0:1,1:1,...".
	maxReplicas = 8 * MaxPartitions
	// noEffect ends the Doc of what is taken because clients set it.
	noEffect = " Accepted, shown, and without effect here."
)

// Defs are the topic configurations that the broker takes, by name. Those
// without effect say so in Doc: Streams, Connect, MirrorMaker and tools that
// copy topics set them, and would fail if they were refused.
var Defs = []Def{
	{Name: "cleanup.policy", Type: List, Default: "delete", Broker: "log.cleanup.policy", words: []string{"delete", "compact"},
		Doc: "What happens to old segments: deleted by retention, compacted to the last record of each key, or both."},
	{Name: "compression.gzip.level", Type: Int, Default: "-1", min: -1, max: 9, Doc: "Level of gzip." + noEffect},
	{Name: "compression.lz4.level", Type: Int, Default: "9", min: 1, max: 17, Doc: "Level of lz4." + noEffect},
	{Name: "compression.type", Type: String, Default: "producer", Broker: "compression.type",
		words: []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"},
		Doc:   "Codec that batches are kept in; producer keeps them as they come."},
	{Name: "compression.zstd.level", Type: Int, Default: "3", min: -131072, max: 22, Doc: "Level of zstd." + noEffect},
	{Name: "delete.retention.ms", Type: Long, Default: "86400000", Broker: "log.cleaner.delete.retention.ms", max: maxInt64,
		Doc: "How long compaction keeps tombstones and the ends of transactions."},
	{Name: "file.delete.delay.ms", Type: Long, Default: "60000", max: maxInt64,
		Doc: "Delay before files of deleted segments go; they go at once." + noEffect},
	{Name: "flush.messages", Type: Long, Default: maxLong, min: 1, max: maxInt64,
		Doc: "Records after which to sync. Satisfied by wayside.durability: acks=all is answered after the sync." + noEffect},
	{Name: "flush.ms", Type: Long, Default: maxLong, max: maxInt64,
		Doc: "Time after which to sync. Satisfied: everything is synced within milliseconds." + noEffect},
	{Name: "follower.replication.throttled.replicas", Type: List, text: maxReplicas,
		Doc: "Replicas that copy within follower.replication.throttled.rate; none copies." + noEffect},
	{Name: "index.interval.bytes", Type: Int, Default: "4096", max: maxInt32, Doc: "Distance of index entries; 4096." + noEffect},
	{Name: "leader.replication.throttled.replicas", Type: List, text: maxReplicas,
		Doc: "Replicas that are copied within leader.replication.throttled.rate; none is." + noEffect},
	{Name: "max.compaction.lag.ms", Type: Long, Default: maxLong, Broker: "log.cleaner.max.compaction.lag.ms", min: 1, max: maxInt64,
		Doc: "Age at which a record is compacted at the latest."},
	{Name: "max.message.bytes", Type: Int, Default: "1048588", Broker: "message.max.bytes", max: 16 << 20,
		Doc: "The largest record batch, in bytes."},
	{Name: "message.timestamp.after.max.ms", Type: Long, Default: maxLong, Broker: "log.message.timestamp.after.max.ms", max: maxInt64,
		Doc: "How far ahead of the box's clock a record's timestamp may be. The default takes all, for a box whose clock was never set."},
	{Name: "message.timestamp.before.max.ms", Type: Long, Default: maxLong, Broker: "log.message.timestamp.before.max.ms", max: maxInt64,
		Doc: "How far behind the box's clock a record's timestamp may be."},
	{Name: "message.timestamp.type", Type: String, Default: "CreateTime", Broker: "log.message.timestamp.type", words: []string{"CreateTime", "LogAppendTime"},
		Doc: "Whose clock stamps records: the producer's or the box's."},
	{Name: "min.cleanable.dirty.ratio", Type: Double, Default: "0.5", Broker: "log.cleaner.min.cleanable.ratio",
		Doc: "Share of a log that must be new since the last compaction for the next one."},
	{Name: "min.compaction.lag.ms", Type: Long, Default: "0", Broker: "log.cleaner.min.compaction.lag.ms", max: maxInt64,
		Doc: "Age before which a record is not compacted."},
	{Name: "min.insync.replicas", Type: Int, Default: "1", Broker: "min.insync.replicas", min: 1, max: 3,
		Doc: "One broker holds the one replica, and acks=all waits for its disk; 2 and 3 are taken from clients made for larger clusters and count as 1."},
	{Name: "preallocate", Type: Bool, Default: "false", Doc: "Whether to allocate segments ahead." + noEffect},
	{Name: "retention.bytes", Type: Long, Default: "-1", Broker: "log.retention.bytes", min: -1, max: maxInt64,
		Doc: "Size of a partition beyond which its oldest segments are deleted; -1 is no limit."},
	{Name: "retention.ms", Type: Long, Default: "604800000", Broker: "log.retention.ms", min: -1, max: maxInt64,
		Doc: "Age beyond which segments are deleted, counted from the append while the broker runs, whatever clocks say; -1 is no limit."},
	{Name: "segment.bytes", Type: Int, Default: "67108864", Broker: "log.segment.bytes", min: 14, max: 1 << 30,
		Doc: "Size of a segment file, and how much is read after a power cut."},
	{Name: "segment.index.bytes", Type: Int, Default: "10485760", min: 4, max: maxInt32, Doc: "Size of index files, which grow with their segment." + noEffect},
	{Name: "segment.jitter.ms", Type: Long, Default: "0", max: maxInt64, Doc: "Random part of segment.ms." + noEffect},
	{Name: "segment.ms", Type: Long, Default: "604800000", Broker: "log.roll.ms", min: 1, max: maxInt64,
		Doc: "Age at which a new segment begins, so that retention and compaction may have the old one."},
	{Name: "unclean.leader.election.enable", Type: Bool, Default: "false", Broker: "unclean.leader.election.enable",
		Doc: "Whether a replica that lags may lead; there is none." + noEffect},
	{Name: "wayside.durability", Type: String, Default: "sync", Broker: "wayside.durability", words: []string{"sync", "write"},
		Doc: "What acks=all waits for: the sync to stable storage, or, as other brokers have it, the write into the page cache, which a power cut may undo."},
	{Name: "wayside.full", Type: String, Default: "block", Broker: "wayside.full", words: []string{"block", "drop-oldest", "drop-read"},
		Doc: "What gives way when the disk or its share for records is full: block keeps every record and has producers try again, drop-oldest deletes the oldest segments, drop-read those of them that the group of wayside.full.group has read."},
	{Name: "wayside.full.group", Type: String, Default: "", text: maxGroup,
		Doc: "Consumer group whose committed offsets say what wayside.full=drop-read may delete; without one it deletes nothing."},
}

// Lookup finds a topic configuration.
func Lookup(name string) (Def, bool) { return lookup(Defs, name) }

func lookup(defs []Def, name string) (Def, bool) {
	i := slices.IndexFunc(defs, func(d Def) bool { return d.Name == name })
	if i < 0 {
		return Def{}, false
	}
	return defs[i], true
}

// CheckConfig says what is wrong with a topic's configuration.
func CheckConfig(config map[string]string) error {
	for name, value := range config {
		d, ok := Lookup(name)
		if !ok {
			return fmt.Errorf("%w: unknown topic configuration %q", ErrConfig, name)
		}
		if err := d.Check(value); err != nil {
			return err
		}
	}
	return nil
}

// Check says what is wrong with a value.
func (d Def) Check(value string) error {
	if err := d.check(value); err != nil {
		return fmt.Errorf("%w: %s: %v", ErrConfig, d.Name, err)
	}
	return nil
}

func (d Def) check(value string) error {
	if d.percent {
		return checkPercent(value)
	}
	switch d.Type {
	case Bool:
		if value != "true" && value != "false" {
			return fmt.Errorf("%q is neither true nor false", value)
		}
	case Int, Long:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < d.min || n > d.max {
			return fmt.Errorf("%q is not a number from %d to %d", value, d.min, d.max)
		}
	case Double:
		if f, err := strconv.ParseFloat(value, 64); err != nil || !(f >= 0 && f <= 1) {
			return fmt.Errorf("%q is not a number from 0 to 1", value)
		}
	case List:
		if d.text == 0 {
			return checkWords(SplitList(value), d.words)
		}
		return checkText(value, d.text)
	default:
		if _, ok := ByDuration(value); ok && d.duration {
			return nil
		}
		if d.text > 0 {
			return checkText(value, d.text)
		}
		return checkWords([]string{value}, d.words)
	}
	return nil
}

func checkText(value string, most int) error {
	if len(value) > most || !utf8.ValidString(value) {
		return fmt.Errorf("at most %d bytes of text are allowed", most)
	}
	return nil
}

func checkWords(got, want []string) error {
	for i, w := range got {
		if !slices.Contains(want, w) || slices.Contains(got[:i], w) {
			return fmt.Errorf("%q is none of: %s", w, strings.Join(want, ", "))
		}
	}
	return nil
}

// SplitList are the words of a List.
func SplitList(value string) []string {
	words := strings.Split(value, ",")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	return words
}

// JoinList is a List of words.
func JoinList(words []string) string { return strings.Join(words, ",") }
