package site

// Link carries topics to a central Kafka, or from it.
type Link struct {
	Name      string   `yaml:"name"`
	Bootstrap []string `yaml:"bootstrap"` // host:port
	// Direction is Up, from the box to the centre, or Down; default Up.
	Direction string `yaml:"direction,omitempty"`
	// Guarantee is ExactlyOnce to carry nothing where the destination grants
	// no transactions; default: at least once there, and say so.
	Guarantee string `yaml:"guarantee,omitempty"`
	// Compression on the way: zstd, lz4, snappy, gzip or none; default zstd.
	// KeepBatches carries batches as the producers made them.
	Compression string      `yaml:"compression,omitempty"`
	TLS         *ClientTLS  `yaml:"tls,omitempty"`  // default: plain text
	SASL        *ClientSASL `yaml:"sasl,omitempty"` // default: nobody logs in
	// Topics that are carried as they are, by name; a trailing * matches a
	// prefix.
	Topics []string `yaml:"topics,omitempty"`
	// Prefix is put before the topic's name at the destination.
	Prefix string `yaml:"prefix,omitempty"`
	// TopicConfig is given to topics that the link makes, beside what they
	// have at the source.
	TopicConfig map[string]string `yaml:"topic_config,omitempty"`
	// DeadLetter is the topic on the box for records that the destination
	// refuses for good; default "dead-letters." and the name.
	DeadLetter string     `yaml:"dead_letter,omitempty"`
	Rules      []LinkRule `yaml:"rules,omitempty"`
	// Groups whose offsets are committed at the destination too, by name; a
	// trailing * matches a prefix.
	Groups []string `yaml:"groups,omitempty"`
	Budget Budget   `yaml:"budget,omitempty"`
}

// Words of a Link.
const (
	Up          = "up"
	Down        = "down"
	ExactlyOnce = "exactly-once"
	KeepBatches = "keep"
	High        = "high"
	Normal      = "normal"
	Low         = "low"
)

// LinkRule carries topics otherwise than as they are. Each rule reads its
// topics for itself, so that a topic may be carried by several.
type LinkRule struct {
	Name   string   `yaml:"name"`
	Topics []string `yaml:"topics"` // as Link.Topics
	// To is the topic's name at the destination, with {topic} and {site} in
	// it; default: the link's prefix and {topic}.
	To       string      `yaml:"to,omitempty"`
	Priority string      `yaml:"priority,omitempty"` // High, Normal or Low; default Normal
	Where    []Condition `yaml:"where,omitempty"`    // records that all of these hold for; default: every one
	Fields   []string    `yaml:"fields,omitempty"`   // of a JSON value that are carried; default: the value as it is
	Sample   int         `yaml:"sample,omitempty"`   // one record of so many of each key; default: all
	Window   *LinkWindow `yaml:"window,omitempty"`   // carry summaries instead of records
	// NewestFirst is how old records may be, such as 10m, that go before older
	// ones which wait; default: all go in order.
	NewestFirst string `yaml:"newest_first,omitempty"`
}

// Condition is a question to a record. One of Key, Header and Field says what
// is looked at.
type Condition struct {
	Key    string `yaml:"key,omitempty"`    // pattern with * and ? that the key matches
	Header string `yaml:"header,omitempty"` // name of a header; its last value counts
	Field  string `yaml:"field,omitempty"`  // of a JSON value, with dots: motor.temperature
	Is     Value  `yaml:"is,omitempty"`
	Not    Value  `yaml:"not,omitempty"`   // also true where there is none
	Like   string `yaml:"like,omitempty"`  // pattern with * and ?
	Above  Value  `yaml:"above,omitempty"` // number
	Below  Value  `yaml:"below,omitempty"` // number
	Exists *bool  `yaml:"exists,omitempty"`
}

// Value is text, a number or a truth value, as it is spelled.
type Value string

// LinkWindow sums records up, for each key and each span of their timestamps.
type LinkWindow struct {
	Every     string   `yaml:"every"`               // span, such as 10s
	Grace     string   `yaml:"grace,omitempty"`     // how much later a record may come; default: nothing
	Fields    []string `yaml:"fields,omitempty"`    // numbers of a JSON value
	Functions []string `yaml:"functions,omitempty"` // count, sum, min, max, mean, last; default: count
}

// windowFunctions are what a window can say of its records.
var windowFunctions = []string{"count", "sum", "min", "max", "mean", "last"}

// Budget is what a link may use of its uplink.
type Budget struct {
	Rate   string       `yaml:"rate,omitempty"`  // such as 64kbit/s or 1MB/s; default: no limit
	Day    string       `yaml:"day,omitempty"`   // such as 500MB; default: no limit
	Month  string       `yaml:"month,omitempty"` // as Day
	Except []RateWindow `yaml:"except,omitempty"`
}

// RateWindow is a time of day with a rate of its own.
type RateWindow struct {
	From string   `yaml:"from"`           // HH:MM, UTC
	To   string   `yaml:"to"`             // HH:MM; before From: on the next day
	Days []string `yaml:"days,omitempty"` // mon to sun, of From; default: every day
	Rate string   `yaml:"rate"`           // as Budget.Rate; none for no limit
}

func (l *Link) fill() {
	orString(&l.Direction, Up)
	orString(&l.Compression, "zstd")
	for i := range l.Rules {
		orString(&l.Rules[i].Priority, Normal)
		if w := l.Rules[i].Window; w != nil && len(w.Functions) == 0 {
			w.Functions = []string{"count"}
		}
	}
}
