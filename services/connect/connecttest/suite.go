package connecttest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// Fault is what a device can be made to do.
type Fault int

// Faults.
const (
	Well      Fault = iota // as it should be
	Malformed              // its next answer or message is none
	Slow                   // it answers after a second or more, or not at all
)

// Device is the far end of a connector under test. Its methods fail the test
// where they cannot do what they are asked.
type Device interface {
	// Start has it live: it listens at its address, or begins to send. It is
	// started again after Stop.
	Start()
	// Stop has it vanish, as if its cable were cut.
	Stop()
	// Emit has it show or send a value: an error means that the connector did
	// not take it, nil, from a device that is acknowledged, that it did. A
	// device that is polled has the value until the next one.
	Emit(value int64) error
	// Do has it behave from now on; false if it cannot.
	Do(Fault) bool
}

// Far is the Device of a sink: Emit puts a value into a topic of the broker,
// and what arrives at the device is asked of it.
type Far interface {
	Device
	// Join is called once, before all else.
	Join(b *Broker)
	// Arrived waits until the device has n values, or for a time.
	Arrived(n int, most time.Duration) []int64
}

// Case is a connector as the suite tries it.
type Case struct {
	Protocol string
	// New makes a device, and the protocol's entry of a profile for it, YAML
	// without the list's hyphen: name is always "dev". secrets is the folder
	// of secret files, for New to fill.
	New func(t *testing.T, secrets string) (profile string, d Device)
	// Make makes the connector of the profile's first entry.
	Make func(p *site.Profile) (connect.Connector, error)
	// Service makes, instead of Make, the connector of what is a service of
	// its own and no entry of a list: from its section of the profile, with
	// the address of the box's broker. Its state is not the frame's, and its
	// records have not the frame's headers.
	Service func(profile, broker, secrets string) connect.Connector
	// Variant tells the cases of one protocol apart, such as "TCP".
	Variant string
	// Topic that records go to; default "dev".
	Topic string
	// Value finds in a record what was given to Emit; default: field "value"
	// of JSON.
	Value func(r *kgo.Record) (int64, bool)
	// Acknowledged: the device is told, and a crash may lose nothing that
	// Emit returned nil for.
	Acknowledged bool
	// Polled: what is not polled before the next Emit is never seen. Emit
	// waits for nothing, so the suite waits for each value.
	Polled bool
	// Once: nothing may come twice either.
	Once bool
	// Readings: records carry quality and times of readings.
	Readings bool
	// Senders of the flood, each of which waits for the answer to one value
	// before it sends the next; default 4.
	Senders int
	// Change is put below the entry for the reconfiguration, such as
	// "records: {headers: {line: a}}"; default: that.
	Change string
	// Cannot says which tests this protocol cannot have, by name, and why.
	Cannot map[string]string
}

// Run tries everything; each test has a box and a device of its own.
func Run(t *testing.T, c Case) {
	if c.Topic == "" {
		c.Topic = "dev"
	}
	if c.Value == nil {
		c.Value = jsonValue
	}
	if c.Change == "" {
		c.Change = "records: {headers: {line: a}}"
	}
	for name := range c.Cannot {
		if tests[name] == nil {
			t.Errorf("Cannot names %q, which is no test", name)
		}
	}
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			if why := c.Cannot[name]; why != "" {
				t.Logf("%s cannot have this: %s", c.Protocol, why)
				return
			}
			w := &world{T: t, c: c, b: NewBroker(t), disk: vfs.NewCrashable(7), secrets: t.TempDir()}
			w.profile, w.dev = c.New(t, w.secrets)
			if far, sink := w.dev.(Far); sink {
				far.Join(w.b)
			}
			t.Cleanup(w.dev.Stop)
			tests[name](w)
			if w.run != nil {
				w.run.Stop()
			}
			w.noSecrets()
		})
	}
}

func jsonValue(r *kgo.Record) (int64, bool) {
	var v struct{ Value json.Number }
	if json.Unmarshal(r.Value, &v) != nil {
		return 0, false
	}
	n, err := v.Value.Int64()
	return n, err == nil
}
