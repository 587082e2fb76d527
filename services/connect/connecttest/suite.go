package connecttest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// world is one test's box, broker, disk and device.
type world struct {
	*testing.T
	c       Case
	b       *Broker
	disk    *vfs.Crashable
	secrets string
	profile string
	dev     Device
	run     *Running
	logs    []*Log
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

// instance reads the entry as the box would.
func (w *world) instance(change string) connect.Instance {
	w.Helper()
	if w.c.Service != nil {
		return connect.Instance{
			Connector: w.c.Service(w.profile+change, w.b.Addr, w.secrets), Name: "dev", Protocol: w.c.Protocol, Records: site.DefaultRecords("dev"),
		}
	}
	text := "version: 1\nsite: box\nconnect:\n  " + w.c.Protocol + ":\n    -\n"
	for line := range strings.Lines(strings.TrimRight(w.profile, "\n") + "\n" + change) {
		text += "      " + line
	}
	p, err := site.Parse("case", []byte(text))
	if err != nil {
		w.Fatalf("the profile of the case:\n%v\n%s", err, text)
	}
	c, err := w.c.Make(p)
	if err != nil {
		w.Fatal(err)
	}
	return connect.NewInstance(p.Connect.Instances()[0], c)
}

// start runs the connector; change is a further line of its entry.
func (w *world) start(change string) {
	w.Helper()
	w.run = Start(w, w.b.Addr, w.disk, w.secrets, w.instance(change))
	w.logs = append(w.logs, w.run.Log)
}

// begin has the device and the connector live.
func (w *world) begin() {
	w.Helper()
	w.dev.Start()
	w.start("")
	w.up()
}

func (w *world) up() {
	w.Helper()
	Until(w, "the connector is up", func() bool { return w.run.State("dev").State == connect.Running })
}

// emit gives values from..to-1 to the device, and returns those that it may
// count on. A polled device shows each until it was seen.
func (w *world) emit(from, to int64) (sure []int64) {
	w.Helper()
	for v := from; v < to; v++ {
		before := w.run.State("dev")
		err := w.dev.Emit(v)
		if err == nil {
			sure = append(sure, v)
		}
		if w.c.Polled {
			Until(w, fmt.Sprintf("value %d is polled", v), func() bool {
				now := w.run.State("dev")
				return now.Records+now.Waiting > before.Records+before.Waiting
			})
		}
	}
	return sure
}

// emitAll is emit that tries until the device was heard.
func (w *world) emitAll(from, to int64) {
	w.Helper()
	for v := from; v < to; v++ {
		Until(w, fmt.Sprintf("value %d is taken", v), func() bool { return len(w.emit(v, v+1)) == 1 })
	}
}

// want waits until all values are among the records of the topic, in the order
// of their first coming.
func (w *world) want(values []int64) {
	w.Helper()
	var missing []int64
	var got []int64
	for n := max(1, len(values)); ; n = len(got) + 1 {
		got = w.arrived(n, wait/3)
		if missing = without(values, got); len(missing) == 0 || len(got) < n {
			break
		}
	}
	if len(missing) > 0 {
		w.Fatalf("%d of %d values are not in the topic, the first is %d; the topic has %d records", len(missing), len(values), missing[0], len(got))
	}
	w.inOrder(values, got)
}

// arrived are the first n values that the connector has brought; -1 is none.
func (w *world) arrived(n int, most time.Duration) (got []int64) {
	if far, sink := w.dev.(Far); sink {
		return far.Arrived(n, most)
	}
	for _, r := range w.b.ReadFor(w.c.Topic, n, most) {
		v, ok := w.c.Value(r)
		if !ok {
			v = -1
		}
		got = append(got, v)
	}
	return got
}

func (w *world) inOrder(values, got []int64) {
	w.Helper()
	seen, last := map[int64]int{}, int64(-1)
	for _, v := range got {
		seen[v]++
		if seen[v] == 1 && v >= 0 {
			if v < last {
				w.Fatalf("value %d comes after %d", v, last)
			}
			last = v
		}
	}
	for _, v := range values {
		if w.c.Once && seen[v] != 1 {
			w.Fatalf("value %d is there %d times, want once", v, seen[v])
		}
	}
}

func without(values, got []int64) []int64 {
	have := map[int64]bool{}
	for _, v := range got {
		have[v] = true
	}
	var missing []int64
	for _, v := range values {
		if !have[v] {
			missing = append(missing, v)
		}
	}
	return missing
}

func span(from, to int64) (all []int64) {
	for v := from; v < to; v++ {
		all = append(all, v)
	}
	return all
}

// noSecrets looks for what the secret files hold in all that was logged.
func (w *world) noSecrets() {
	files, err := os.ReadDir(w.secrets)
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(w.secrets, f.Name()))
		if err != nil {
			w.Fatal(err)
		}
		secret := strings.TrimSpace(string(data))
		if len(secret) < 4 || strings.Contains(secret, "BEGIN CERTIFICATE") {
			continue
		}
		for _, l := range w.logs {
			if strings.Contains(l.String(), secret) {
				w.Errorf("what is in %s was logged", f.Name())
			}
		}
	}
}
