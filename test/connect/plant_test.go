package connect

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

// reading is what a connector makes of a point.
type reading struct {
	Point   string
	Value   any
	Unit    string
	Quality string
}

// latest is the last reading of each point.
func latest(t testing.TB, rs []*kgo.Record) map[string]reading {
	t.Helper()
	all := map[string]reading{}
	for _, r := range rs {
		var v reading
		if err := json.Unmarshal(r.Value, &v); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		all[v.Point] = v
	}
	return all
}

// values are those of points, "bad" where the quality is.
func values(rs map[string]reading) map[string]any {
	out := map[string]any{}
	for name, r := range rs {
		out[name] = r.Value
		if r.Quality == "bad" {
			out[name] = "bad"
		}
	}
	return out
}

// command has the connector that the topic is called after write a point, and
// returns the answer.
func command(t testing.TB, kafka, topic, id, point string, value any) map[string]any {
	t.Helper()
	readsCommands(t, kafka, strings.TrimSuffix(topic, ".commands"), topic)
	text, err := json.Marshal(map[string]any{"id": id, "point": point, "value": value})
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: text}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	records(t, kafka, topic+".answers", func(rs []*kgo.Record) bool {
		for _, r := range rs {
			var a map[string]any
			if err := json.Unmarshal(r.Value, &a); err == nil && a["id"] == id {
				answer = a
			}
		}
		return answer != nil
	})
	return answer
}

// plant is waysided connect with a profile.
func plant(t testing.TB, kafka *process, text string) *process {
	t.Helper()
	return connectors(t, "--broker", kafka.addr, "--data", t.TempDir(), "--secrets", t.TempDir(),
		"--run-dir", t.TempDir(), "--site", profile(t, text))
}

func port(t testing.TB, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestModbusPymodbus polls and writes pymodbus's server, over both framings,
// and finds it again when it was away.
func TestModbusPymodbus(t *testing.T) {
	need(t)
	py := python(t, "pymodbus==3.6.9")
	script := filepath.Join("testdata", "python", "modbus_server.py")
	tcp, rtu := connecttest.FreeAddress(t), connecttest.FreeAddress(t)
	server := start(t, py, script, port(t, tcp), "tcp")
	start(t, py, script, port(t, rtu), "rtu")
	kafka := edge(t)
	connection := `
    - name: %s
      address: %s
      transport: %s
      every: 100ms
      points:
        - {name: unit, address: "holding:0"}
        - {name: weight, address: "40011", type: float32, order: CDAB, unit: kg}
        - {name: text, address: "input:20", type: string, length: 2}
        - {name: gone, address: "holding:50"}
        - {name: behind, address: "holding:51"}
        - {name: coil, address: "coil:3"}
        - {name: input, address: "discrete:1"}
        - {name: other, address: "holding:0", unit_id: 2}
        - {name: setpoint, address: "holding:120", type: int16, scale: 0.1, writable: true}
        - {name: bit, address: "holding:121.3", writable: true}
        - {name: start, address: "coil:10", writable: true}
        - {name: total, address: "holding:122", type: uint32, order: CDAB, writable: true}
      commands: {topic: %[1]s.commands}
`
	plant(t, kafka, "connect:\n  modbus:"+fmt.Sprintf(connection, "tcp", tcp, "tcp")+fmt.Sprintf(connection, "rtu", rtu, "rtu-over-tcp"))
	want := map[string]any{
		"unit": 1.0, "weight": 123456.0, "text": "Pres", "gone": "bad", "behind": 51.0, "coil": true, "input": false, "other": 2.0,
		"setpoint": 12.0, "bit": true, "start": false, "total": float64(123<<16 + 122),
	}
	for _, name := range []string{"tcp", "rtu"} {
		seen := func(want map[string]any) {
			t.Helper()
			var got map[string]any
			records(t, kafka.addr, name, func(rs []*kgo.Record) bool {
				got = values(latest(t, rs))
				return cmp.Equal(want, got)
			})
		}
		seen(want)
		changed := map[string]any{}
		for k, v := range want {
			changed[k] = v
		}
		for point, value := range map[string]any{"setpoint": 21.5, "bit": false, "start": true, "total": 65538.0} {
			a := command(t, kafka.addr, name+".commands", "write "+point, point, value)
			if a["ok"] != true || a["value"] != value {
				t.Errorf("%s: the answer to %s is %v", name, point, a)
			}
			changed[point] = value
		}
		seen(changed)
		if a := command(t, kafka.addr, name+".commands", "refused", "unit", 7); a["ok"] != false {
			t.Errorf("%s: a point that is not writable: %v", name, a)
		}
	}
	server.kill()
	var rs []*kgo.Record
	records(t, kafka.addr, "tcp", func(all []*kgo.Record) bool {
		rs = all
		return latest(t, all)["unit"].Quality == "bad"
	})
	start(t, py, script, port(t, tcp), "tcp")
	records(t, kafka.addr, "tcp", func(all []*kgo.Record) bool {
		return len(all) > len(rs) && latest(t, all)["unit"].Quality == "good"
	})
}

// TestS7Snap7 polls and writes the server that comes with Snap7.
func TestS7Snap7(t *testing.T) {
	need(t)
	at := connecttest.FreeAddress(t)
	py := python(t, "python-snap7==2.0.2")
	server := start(t, py, filepath.Join("testdata", "python", "s7_server.py"), port(t, at))
	kafka := edge(t)
	plant(t, kafka, `
connect:
  s7:
    - name: mixer
      address: `+at+`
      slot: 2
      every: 100ms
      points:
        - {name: run, address: DB1.DBX0.3, writable: true}
        - {name: recipe, address: "DB1.DBB10 STRING[20]", writable: true}
        - {name: total, address: DB1.DBD40 DINT, writable: true}
        - {name: last, address: DB10.DBW298}
        - {name: beyond, address: DB10.DBD298}
        - {name: none, address: DB99.DBW0}
        - {name: marker, address: M0.1, writable: true}
        - {name: input, address: IW64 INT, scale: 0.5}
        - {name: output, address: QW2, writable: true}
      commands: {topic: mixer.commands}
    - name: count
      address: `+at+`
      slot: 2
      every: 100ms
      points: [{name: real, address: DB10.DBD4 REAL}]
`)
	want := map[string]any{
		"run": true, "recipe": "Press", "total": -123456.0, "last": 0.0, "beyond": "bad", "none": "bad", "marker": true, "input": -21.0, "output": 0.0,
	}
	seen := func() {
		t.Helper()
		records(t, kafka.addr, "mixer", func(rs []*kgo.Record) bool { return cmp.Equal(want, values(latest(t, rs))) })
	}
	seen()
	for point, value := range map[string]any{"run": false, "recipe": "Hällo", "total": 77.0, "marker": false, "output": 513.0} {
		a := command(t, kafka.addr, "mixer.commands", "write "+point, point, value)
		if a["ok"] != true || a["value"] != value {
			t.Errorf("the answer to %s is %v", point, a)
		}
		want[point] = value
	}
	seen()
	records(t, kafka.addr, "count", func(rs []*kgo.Record) bool {
		v, _ := latest(t, rs)["real"].Value.(float64)
		return v >= 2
	})
	if server.ended() {
		t.Error("the server has ended")
	}
}
