package site

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Connect holds the device connectors. MQTT is the broker on the box; every
// other field is a list of one protocol, and a line of Instances.
type Connect struct {
	MQTT *MQTT  `yaml:"mqtt,omitempty"`
	HTTP []HTTP `yaml:"http,omitempty"`

	Files        []Files        `yaml:"files,omitempty"`
	FileSink     []FileSink     `yaml:"file_sink,omitempty"`
	DiodeSend    []DiodeSend    `yaml:"diode_send,omitempty"`
	DiodeReceive []DiodeReceive `yaml:"diode_receive,omitempty"`
	OPCUA        []OPCUA        `yaml:"opcua,omitempty"`
	MQTTClient   []MQTTClient   `yaml:"mqtt_client,omitempty"`

	Modbus []Modbus `yaml:"modbus,omitempty"`
	S7     []S7     `yaml:"s7,omitempty"`
	Syslog []Syslog `yaml:"syslog,omitempty"`

	SNMP      []SNMP      `yaml:"snmp,omitempty"`
	SNMPTraps []SNMPTraps `yaml:"snmp_traps,omitempty"`
}

// Instance is one entry of a protocol's list, a pointer to its type.
type Instance interface {
	// Common is what every protocol has.
	Common() Common
	// fill sets defaults, those of Records and Commands besides.
	fill()
	// check judges what the frame does not: all but Common.
	check(c checker, path string)
}

// Common is the part of an Instance that the frame looks after.
type Common struct {
	Name     string    // unique in the profile; positions and spools are kept by it
	Records  *Records  // nil: the protocol writes no records by template
	Commands *Commands // nil: no commands, or none asked for
	Words    []string  // of templates, beside those of every protocol
}

// Located is an Instance with its protocol and its place in the profile.
type Located struct {
	Instance
	Protocol string // the field of Connect, such as "modbus"
	Path     string // such as "connect.modbus[0]"
}

// Instances are all connectors but the MQTT broker, in the order of the
// fields and of their lists.
func (c *Connect) Instances() []Located {
	var all []Located
	all = located(all, "http", c.HTTP)
	all = located(all, "files", c.Files)
	all = located(all, "file_sink", c.FileSink)
	all = located(all, "diode_send", c.DiodeSend)
	all = located(all, "diode_receive", c.DiodeReceive)
	all = located(all, "opcua", c.OPCUA)
	all = located(all, "mqtt_client", c.MQTTClient)
	all = located(all, "modbus", c.Modbus)
	all = located(all, "s7", c.S7)
	all = located(all, "syslog", c.Syslog)
	all = located(all, "snmp", c.SNMP)
	all = located(all, "snmp_traps", c.SNMPTraps)
	return all
}

// located adds a protocol's list to all.
func located[T any, P interface {
	*T
	Instance
}](all []Located, protocol string, list []T) []Located {
	for i := range list {
		all = append(all, Located{P(&list[i]), protocol, fmt.Sprintf("connect.%s[%d]", protocol, i)})
	}
	return all
}

// Records is what a connector makes of what it reads. Topic, Key and Headers
// are templates: {site}, {connector} and the protocol's own words in braces.
type Records struct {
	Topic   string            `yaml:"topic,omitempty"`   // default "{connector}"
	Key     string            `yaml:"key,omitempty"`     // default: the protocol's
	Format  string            `yaml:"format,omitempty"`  // json, raw, avro or protobuf; default json
	Headers map[string]string `yaml:"headers,omitempty"` // beside those that every record has
	// DeadLetter is the topic for what cannot be a record; default
	// "dead-letters." and the name.
	DeadLetter string `yaml:"dead_letter,omitempty"`
	// Spool is how much is kept on disk while the broker takes no records;
	// beyond it the oldest go. Default 64MB.
	Spool string `yaml:"spool,omitempty"`
}

// Commands has a connector write to its device what a topic says.
type Commands struct {
	Topic   string `yaml:"topic"`             // commands, JSON
	Answers string `yaml:"answers,omitempty"` // topic; default: Topic and ".answers"
	// MaxAge of a command that is still carried out, such as 1m; default: any.
	MaxAge string `yaml:"max_age,omitempty"`
}

// Report is report by exception: which readings of a point are worth a
// record. Without any of its fields every one is.
type Report struct {
	// Deadband is how far a number must move from the last one recorded.
	Deadband float64 `yaml:"deadband,omitempty"`
	// Changes records only values that differ from the last one recorded.
	Changes bool   `yaml:"changes,omitempty"`
	Min     string `yaml:"min,omitempty"` // least time between two records; the newest reading is kept and follows
	Max     string `yaml:"max,omitempty"` // a reading this long after the last record is recorded whatever its value
}

// ServerTLS is how a connector that listens encrypts. A file is an absolute
// path, or the name of one in the secrets directory.
type ServerTLS struct {
	Cert       string `yaml:"cert"`                  // file of certificate and chain, PEM
	Key        string `yaml:"key"`                   // file of its key, PEM
	ClientCA   string `yaml:"client_ca,omitempty"`   // file of the authorities of clients' certificates, PEM
	ClientAuth string `yaml:"client_auth,omitempty"` // none, request or require; default require with client_ca, else none
}

func (t *ServerTLS) fill() {
	if t.ClientCA != "" {
		orString(&t.ClientAuth, clientAuthRequire)
	}
	orString(&t.ClientAuth, clientAuthNone)
}

func (c checker) serverTLS(path string, t *ServerTLS) {
	c.tls(path, &TLS{Cert: t.Cert, Key: t.Key, ClientCA: t.ClientCA, ClientAuth: t.ClientAuth})
}

// valueTypes and byteOrders are those of package connect/decode; a test there
// holds them together.
var (
	valueTypes = []string{"bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
		"float32", "float64", "bcd16", "bcd32", "string", "bytes"}
	byteOrders = []string{"ABCD", "DCBA", "BADC", "CDAB"}
)

// ValueTypes are the types that a value at a device may have.
func ValueTypes() []string { return slices.Clone(valueTypes) }

// ByteOrders are the orders of bytes that a number at a device may have.
func ByteOrders() []string { return slices.Clone(byteOrders) }

// Words of Records.
const (
	FormatJSON     = "json"
	FormatRaw      = "raw"
	FormatAvro     = "avro"
	FormatProtobuf = "protobuf"

	defaultSpool     = "64MB"
	deadLetterPrefix = "dead-letters."
)

// commonWords are those that every template knows.
var commonWords = []string{"site", "connector"}

// ReadingWords are those of templates of a protocol that has points.
var ReadingWords = []string{"point", "address", "unit", "quality"}

// fill of the frame's part; key is the protocol's default of Records.Key.
func (r *Records) fill(name, key string) {
	orString(&r.Topic, "{connector}")
	orString(&r.Key, key)
	orString(&r.Format, FormatJSON)
	orString(&r.DeadLetter, deadLetterPrefix+name)
	orString(&r.Spool, defaultSpool)
}

func (c *Commands) fill() {
	if c != nil && c.Topic != "" {
		orString(&c.Answers, c.Topic+".answers")
	}
}

// connectors judges the frame's part of every instance and has the protocol
// judge the rest.
func (c checker) connectors(p *Connect) {
	all := p.Instances()
	for _, i := range all {
		common := i.Common()
		c.text(i.Path+".name", common.Name, siteID)
		if common.Records != nil {
			c.records(i.Path+".records", common.Records, slices.Concat(commonWords, common.Words))
		}
		if common.Commands != nil {
			c.commands(i.Path+".commands", common.Commands)
		}
		i.check(c, i.Path)
	}
	c.sinkPlaces("connect.file_sink", p.FileSink)
	c.unique(len(all), func(n int) (string, string) { return all[n].Common().Name, all[n].Path + ".name" })
}

func (c checker) records(path string, r *Records, words []string) {
	c.text(path+".topic", r.Topic, topicTemplateOf(words))
	c.text(path+".key", r.Key, templateOf(words))
	c.text(path+".format", r.Format, oneOf(FormatJSON, FormatRaw, FormatAvro, FormatProtobuf))
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		c.text(join(path+".headers", name), r.Headers[name], templateOf(words))
	}
	c.text(path+".dead_letter", r.DeadLetter, topicName)
	c.text(path+".spool", r.Spool, spoolSize)
}

func (c checker) commands(path string, m *Commands) {
	c.text(path+".topic", m.Topic, topicName)
	c.text(path+".answers", m.Answers, topicName)
	c.text(path+".max_age", m.MaxAge, span(time.Second, 366*24*time.Hour))
	if m.Answers != "" && m.Answers == m.Topic {
		c.value(path+".answers", "", "is the topic of the commands: answers would be read as commands")
	}
}

func (c checker) exception(path string, r *Report) {
	if r.Deadband < 0 {
		c.value(path+".deadband", "", "want a number from 0, got %v", r.Deadband)
	}
	c.text(path+".min", r.Min, span(time.Millisecond, 24*time.Hour))
	c.text(path+".max", r.Max, span(time.Millisecond, 366*24*time.Hour))
	if r.Max != "" && r.Deadband == 0 && !r.Changes {
		c.value(path+".max", "", "has no effect without deadband or changes: every reading is recorded")
	}
}

// spoolSize is at least what the largest records need.
func spoolSize(s string) fault {
	if n, err := ParseSize(s); err != nil || n < 8e6 || n > 1e12 {
		return faultf("want a size from 8MB, such as 64MB, got %q", shorten(s))
	}
	return fault{}
}

// templateOf is text with words in braces.
func templateOf(words []string) rule {
	return func(s string) fault {
		_, bad := ExpandTemplate(s, func(word string) (string, bool) { return "", slices.Contains(words, word) })
		if bad == "" {
			return fault{}
		}
		braces := make([]string, len(words))
		for i, w := range words {
			braces[i] = "{" + w + "}"
		}
		return fault{faultf("%q: the words in braces here are %s", shorten(s), strings.Join(braces, " ")).reason, braced(nearest(bad, words))}
	}
}

// topicTemplateOf is a templateOf whose text besides may stand in a topic.
func topicTemplateOf(words []string) rule {
	return func(s string) fault {
		if f := templateOf(words)(s); f.reason != "" {
			return f
		}
		plain, _ := ExpandTemplate(s, func(string) (string, bool) { return "x", true })
		return topicName(plain)
	}
}

// ExpandTemplate puts what value says in the place of every {word}. bad is
// the first word that value does not know, or a brace without its twin.
func ExpandTemplate(s string, value func(word string) (string, bool)) (out, bad string) {
	var b strings.Builder
	for {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			b.WriteString(s)
			return b.String(), bad
		}
		b.WriteString(s[:i])
		word, rest, closed := strings.Cut(s[i+1:], "}")
		v, known := "", false
		if s[i] == '{' && closed {
			v, known = value(word)
		} else {
			word, rest = s[i:i+1], s[i+1:]
		}
		if !known && bad == "" {
			bad = word
		}
		b.WriteString(v)
		s = rest
	}
}

// DefaultRecords is what a connector has whose protocol has no Records: a
// topic for its dead letters, and a spool.
func DefaultRecords(name string) Records {
	var r Records
	r.fill(name, "")
	return r
}
