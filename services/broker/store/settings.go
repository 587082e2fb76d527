package store

// Settings is what a topic's configuration means to its logs. The zero value
// is a topic that configures nothing.
type Settings struct {
	SegmentBytes int64 // segment.bytes; default DefaultSegmentBytes, at most 1 GiB
	SegmentMs    int64 // segment.ms; 0 is never

	// LogAppendTime: records carry the time at which the broker took them
	// (message.timestamp.type=LogAppendTime).
	LogAppendTime bool
	// How far a producer's timestamps may lie before and after the broker's
	// clock (message.timestamp.before.max.ms, .after.max.ms); 0 or less is any.
	BeforeMaxMs, AfterMaxMs int64

	// Compression is compression.type: "" or "producer" (as they come),
	// "uncompressed", "gzip", "snappy", "lz4" or "zstd".
	Compression string
	// MaxMessageBytes bounds a batch that was recompressed; 0 is 16 MiB.
	MaxMessageBytes int64

	// WriteIsEnough (wayside.durability=write): acks=all is answered, and
	// records are read, after the write; the sync follows within the linger. A
	// power cut may take what was acknowledged, but for what an ended transaction
	// wrote. The default waits for the sync.
	WriteIsEnough bool

	Compaction Compaction
}

// Compaction is cleanup.policy and what belongs to it.
type Compaction struct {
	Compact           bool    // cleanup.policy has "compact"
	Delete            bool    // cleanup.policy has "delete"
	DeleteRetentionMs int64   // delete.retention.ms: how long tombstones stay
	MinLagMs          int64   // min.compaction.lag.ms
	MaxLagMs          int64   // max.compaction.lag.ms
	MinDirtyRatio     float64 // min.cleanable.dirty.ratio
}

// Recompresses reports whether a batch is stored in another codec than it has.
func (s Settings) Recompresses(h Header) bool {
	codec, ok := codecByName[s.Compression]
	return ok && codec != h.Attributes&attrCodec
}

// Configure puts new settings in force, for what is appended from now on.
func (l *Log) Configure(s Settings) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.configure(s)
}

func (l *Log) configure(s Settings) {
	if s.SegmentBytes <= 0 {
		s.SegmentBytes = DefaultSegmentBytes
	}
	s.SegmentBytes = min(s.SegmentBytes, 1<<30)
	l.set = s
	l.recompress.Store(newRecompressor(s))
	if l.writeIsEnough() && l.hw < l.leo && l.err == nil {
		l.advance(l.leo, l.act.size)
	}
}

// writeIsEnough reports whether what is written may be acknowledged and read
// before it is durable. Never so a transaction marker, nor what follows it
// meanwhile: the coordinator forgets the transaction once its markers are
// there, and a marker lost after that would leave it open for ever.
func (l *Log) writeIsEnough() bool { return l.set.WriteIsEnough && l.marked <= l.synced }

// Settings returns what is in force.
func (l *Log) Settings() Settings {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set
}
