package modbus

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// profile is one Modbus connection of a profile that is these lines of YAML.
func profile(t testing.TB, text string) site.Modbus {
	t.Helper()
	p, err := site.Parse("test", []byte("version: 1\nsite: a\nconnect:\n  modbus:\n    - name: press\n      "+strings.ReplaceAll(text, "\n", "\n      ")))
	if err != nil {
		t.Fatal(err)
	}
	return p.Connect.Modbus[0]
}

// run serves the connection until the test ends, and returns the readings
// that come to its topic.
func run(t testing.TB, m site.Modbus) (next func() map[string]any) {
	t.Helper()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "press"), kfake.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	c, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := connect.New(connect.Config{
		Site: "a", Broker: kafka.ListenAddrs(), Log: slog.New(slog.DiscardHandler),
		Instances: []connect.Instance{{Connector: c, Name: m.Name, Protocol: "modbus", Records: m.Records}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...), kgo.ConsumeTopics("press"), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	var waiting []*kgo.Record
	return func() map[string]any {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for len(waiting) == 0 {
			fs := cl.PollFetches(ctx)
			if ctx.Err() != nil {
				t.Fatalf("no record came: %v", fs.Err())
			}
			waiting = fs.Records()
		}
		r := waiting[0]
		waiting = waiting[1:]
		var v map[string]any
		if err := json.Unmarshal(r.Value, &v); err != nil {
			t.Fatal(err)
		}
		v["key"] = string(r.Key)
		return v
	}
}

// until reads readings until each point has shown what is wanted of it: its
// value, or "bad".
func until(t testing.TB, next func() map[string]any, want map[string]any) {
	t.Helper()
	missing := map[string]any{}
	for k, v := range want {
		missing[k] = v
	}
	for len(missing) > 0 {
		r := next()
		got := r["value"]
		if r["quality"] == "bad" {
			got = "bad"
		}
		if point := r["point"].(string); cmp.Equal(missing[point], got) {
			delete(missing, point)
		}
	}
}

func TestReadings(t *testing.T) {
	d := startDevice(t, false)
	d.registers = map[uint16]uint16{100: 215, 101: 0x2000, 102: 0x47f1, 200: 5}
	d.bits[3] = true
	next := run(t, profile(t, fmt.Sprintf(`address: %s
every: 20ms
points:
  - {name: temperature, address: "holding:100", type: int16, scale: 0.1, unit: °C}
  - {name: weight, address: "40102", type: float32, order: CDAB}
  - {name: running, address: "coil:3"}
  - {name: level, address: "input:200", unit_id: 7}
  - {name: gone, address: "holding:103"}
`, d.addr())))
	until(t, next, map[string]any{"temperature": 21.5, "weight": 123456.0, "running": true, "level": 5.0, "gone": "bad"})
	d.set(func() { d.registers[100] = 300 })
	until(t, next, map[string]any{"temperature": 30.0})
	first := next()
	for first["point"] != "temperature" {
		first = next()
	}
	delete(first, "time")
	delete(first, "box_time")
	want := map[string]any{"key": "temperature", "point": "temperature", "value": 30.0, "unit": "°C", "quality": "good", "address": "holding:100"}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("reading (-want +got):\n%s", diff)
	}
}

// TestOneBadPoint: a register that the device does not have spoils its own
// point only, and is not asked for again at every poll.
func TestOneBadPoint(t *testing.T) {
	d := startDevice(t, false)
	for i := range uint16(8) {
		d.registers[i] = i
	}
	delete(d.registers, 5)
	text := fmt.Sprintf("address: %s\nevery: 20ms\npoints:\n", d.addr())
	want := map[string]any{}
	for i := range 8 {
		text += fmt.Sprintf("  - {name: p%d, address: \"holding:%d\"}\n", i, i)
		want[fmt.Sprintf("p%d", i)] = float64(i)
	}
	want["p5"] = "bad"
	next := run(t, profile(t, text))
	until(t, next, want)
	before := d.asked()
	until(t, next, map[string]any{"p0": 0.0})
	until(t, next, map[string]any{"p7": 7.0})
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.requests[before:] {
		if at, n := r[3], r[5]; at <= 5 && at+n > 5 {
			t.Errorf("after it was refused, register 5 is in the request % x", r)
		}
	}
}

// TestSilentUnit: a unit that does not answer makes its own points bad, and
// the other unit is still read.
func TestSilentUnit(t *testing.T) {
	d := startDevice(t, true)
	d.registers[0] = 1
	d.silent[2] = true
	next := run(t, profile(t, fmt.Sprintf(`address: %s
transport: rtu-over-tcp
every: 20ms
timeout: 100ms
points:
  - {name: here, address: "holding:0"}
  - {name: away, address: "holding:0", unit_id: 2}
`, d.addr())))
	until(t, next, map[string]any{"here": 1.0, "away": "bad"})
	d.set(func() { d.registers[0] = 2 })
	until(t, next, map[string]any{"here": 2.0})
	d.set(func() { d.silent[2] = false })
	until(t, next, map[string]any{"away": 2.0})
}

// TestDeviceLost: all points are bad when the device is gone, and good when it
// is back.
func TestDeviceLost(t *testing.T) {
	d := startDevice(t, false)
	d.registers[0] = 1
	next := run(t, profile(t, fmt.Sprintf("address: %s\nevery: 20ms\ntimeout: 100ms\npoints: [{name: a, address: \"holding:0\"}]\n", d.addr())))
	until(t, next, map[string]any{"a": 1.0})
	d.set(func() { d.silent[1] = true })
	until(t, next, map[string]any{"a": "bad"})
	d.set(func() { d.silent[1] = false; d.registers[0] = 3 })
	until(t, next, map[string]any{"a": 3.0})
}

// TestWrite: a command is confirmed by what the device holds afterwards.
func TestWrite(t *testing.T) {
	d := startDevice(t, false)
	d.registers = map[uint16]uint16{0: 1, 1: 0, 2: 0}
	d.bits[0] = false
	m := profile(t, fmt.Sprintf(`address: %s
points:
  - {name: setpoint, address: "holding:0", scale: 0.1, writable: true}
  - {name: total, address: "holding:1", type: uint32, order: CDAB, writable: true}
  - {name: start, address: "coil:0", writable: true}
  - {name: fixed, address: "holding:0"}
`, d.addr()))
	built, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	c := built.(*Connector)
	s := &session{Connector: c, link: open(t.Context(), c.cfg, c.timeout, 0)}
	defer s.link.close()
	write := func(point string, value any) (any, error) {
		return s.write(t.Context(), connect.Command{Point: point, Value: value})
	}
	for _, tt := range []struct {
		point      string
		give, want any
	}{
		{"setpoint", json.Number("21.5"), 21.5},
		{"total", json.Number("65538"), uint64(65538)},
		{"start", true, true},
	} {
		if got, err := write(tt.point, tt.give); err != nil || got != tt.want {
			t.Errorf("%s: %v, %v, want %v", tt.point, got, err, tt.want)
		}
	}
	if d.registers[0] != 215 || d.registers[1] != 2 || d.registers[2] != 1 || !d.bits[0] {
		t.Errorf("the device holds %v, %v", d.registers, d.bits)
	}
	for point, value := range map[string]any{"fixed": json.Number("1"), "other": json.Number("1"), "setpoint": json.Number("1e9"), "start": "perhaps"} {
		if got, err := write(point, value); err == nil {
			t.Errorf("%s = %v: got %v, want an error", point, value, got)
		}
	}
	d.set(func() {
		d.mangle = func(f []byte) []byte { // the device holds 300 whatever is written
			if f[7] == 3 {
				f[9], f[10] = 1, 44
			}
			return f
		}
	})
	if got, err := write("setpoint", json.Number("2")); err == nil || !strings.Contains(err.Error(), "reads back as 30") {
		t.Errorf("a value that does not stay: %v, %v", got, err)
	}
}

func TestBrowse(t *testing.T) {
	d := startDevice(t, false)
	d.registers = map[uint16]uint16{0: 7, 130: 8, 131: 9}
	d.refuse[2] = 1
	c, err := New(profile(t, fmt.Sprintf("address: %s\npoints: [{name: a, address: \"holding:0\"}]\n", d.addr())))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.(*Connector).Browse(t.Context(), nil, &out); err != nil {
		t.Fatal(err)
	}
	want := `points:
  - {name: holding-0, address: "holding:0"}  # 7
  - {name: holding-130, address: "holding:130"}  # 8
  - {name: holding-131, address: "holding:131"}  # 9
  - {name: input-0, address: "input:0"}  # 7
  - {name: input-130, address: "input:130"}  # 8
  - {name: input-131, address: "input:131"}  # 9
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("browse (-want +got):\n%s", diff)
	}
}
