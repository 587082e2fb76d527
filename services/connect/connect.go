// Package connect is the frame that device connectors stand in: it runs them,
// gives their records to the box's broker, keeps what the broker cannot take
// yet, remembers how far they came, hands them commands, and tells of them.
package connect

import (
	"context"
	"io"
	"time"
)

// Connector is one configured device, far system or listener.
type Connector interface {
	// Run serves the device until ctx ends, and then returns nil or ctx.Err(),
	// or until the device is lost, and then returns an error for people. The
	// frame calls it again after a pause. Nothing of it runs on return. A
	// panic in it is caught, told, and counts as an error.
	Run(ctx context.Context, box *Box) error
}

// Browser is a Connector that can list what its device offers.
type Browser interface {
	// Browse writes YAML that can be pasted into the profile.
	Browse(ctx context.Context, box *Box, w io.Writer) error
}

// Quality says how far a value can be trusted.
type Quality int

// Qualities, as OPC UA has them; the zero value is Good.
const (
	Good Quality = iota
	Uncertain
	Bad
)

// String is the word that records carry.
func (q Quality) String() string {
	switch q {
	case Good:
		return "good"
	case Uncertain:
		return "uncertain"
	}
	return "bad"
}

// Reading is one value of one point of a device.
type Reading struct {
	Point   string // its name in the profile
	Address string // at the device, such as "holding:100" or "ns=2;s=Temp"
	// Value is a bool, int64, uint64, float64, string, []byte or time.Time,
	// a slice or map[string]any of these, or nil where there is none.
	Value      any
	Unit       string
	Quality    Quality
	DeviceTime time.Time // by the device's clock; zero where it has none
	BoxTime    time.Time // when the box got it; zero: now
	Detail     string    // of a Quality that is not Good: why
	Exception  *Exception
	Values     map[string]string // of further words in templates
}

// Record is one Kafka record. An empty Topic is made from the template of the
// profile, and so is a nil Key; the profile's headers come after Headers.
type Record struct {
	Topic      string
	Key, Value []byte
	Headers    []Header
	Time       time.Time         // zero: now
	Values     map[string]string // of words in templates

	dead *dead // it is none, see Dead
}

// dead is why something cannot be a record, and from where it came.
type dead struct{ reason, source string }

// Dead is what cannot be a record, among those for Box.Commit: there it
// becomes a dead letter, in the same transaction.
func Dead(reason string, original []byte, source string) Record {
	return Record{Value: original, dead: &dead{reason, source}}
}

// Header is one header of a Record.
type Header struct {
	Key   string
	Value []byte
}

// Command is what the profile's command topic wants of a device.
type Command struct {
	ID    string
	Point string
	Value any    // as JSON has it: bool, json.Number, string, []any, map[string]any, nil
	JSON  []byte // the whole command, for a protocol's own fields
	Key   []byte // of its record
	Time  time.Time

	answer func(err error, value any)
}

// Answer says that the command was carried out, or with an error why not.
// The next command comes after it. Calling it again does nothing.
func (c *Command) Answer(err error) { c.answer(err, nil) }

// AnswerValue is Answer with what the device gave back.
func (c *Command) AnswerValue(value any) { c.answer(nil, value) }

// Result is AnswerValue, or Answer where there is an error.
func (c *Command) Result(value any, err error) {
	if err != nil {
		value = nil
	}
	c.answer(err, value)
}
