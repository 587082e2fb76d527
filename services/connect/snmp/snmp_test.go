package snmp

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gosnmp/gosnmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

const (
	base     = ".1.3.6.1.4.1.99999"
	readOnly = base + ".9.0"
)

// run serves an agent of these fields of a profile.
func run(t testing.TB, b *connecttest.Broker, text string) *connecttest.Running {
	t.Helper()
	p, err := site.Parse("test", []byte("version: 1\nsite: a\nconnect:\n  snmp:\n    - "+strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n      ")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(p.Connect.SNMP[0])
	if err != nil {
		t.Fatal(err)
	}
	return connecttest.Start(t, b.Addr, nil, t.TempDir(), connect.NewInstance(p.Connect.Instances()[0], c))
}

type reading struct {
	Point   string
	Value   any
	Quality string
	Detail  string
}

// newest reads a topic until the newest reading of each point is as wanted;
// a quality of bad is the value "bad: " and the reason.
func newest(t testing.TB, b *connecttest.Broker, want map[string]any) {
	t.Helper()
	for n := len(want); ; {
		rs := b.ReadFor("dev", n, 20*time.Second)
		got := latest(t, rs)
		if cmp.Equal(want, got) {
			return
		}
		if len(rs) < n {
			t.Fatalf("after %d readings (-want +got):\n%s", len(rs), cmp.Diff(want, got))
		}
		n = len(rs) + 1
	}
}

func latest(t testing.TB, rs []*kgo.Record) map[string]any {
	t.Helper()
	got := map[string]any{}
	for _, r := range rs {
		var v reading
		if err := json.Unmarshal(r.Value, &v); err != nil {
			t.Fatal(err)
		}
		got[v.Point] = v.Value
		if v.Quality == "bad" {
			got[v.Point] = "bad: " + v.Detail
		}
	}
	return got
}

// everyType is an object of each type, and what it is told as.
func everyType() (objects []gosnmp.SnmpPDU, points string, want map[string]any) {
	want = map[string]any{}
	add := func(name string, typ gosnmp.Asn1BER, v, told any, field string) {
		oid := fmt.Sprintf("%s.1.%d.0", base, len(objects)+1)
		objects = append(objects, gosnmp.SnmpPDU{Name: oid, Type: typ, Value: v})
		points += fmt.Sprintf("  - {name: %s, oid: %s, report: {changes: true}%s}\n", name, oid[1:], field)
		want[name] = told
	}
	add("integer", gosnmp.Integer, -42, -42.0, "")
	add("scaled", gosnmp.Integer, -42, 5.8, ", scale: 0.1, offset: 10")
	add("counter", gosnmp.Counter32, uint32(4294967295), 4294967295.0, "")
	add("gauge", gosnmp.Gauge32, uint32(7), 7.0, "")
	add("ticks", gosnmp.TimeTicks, uint32(12345), 123.45, ", scale: 0.01")
	add("counter64", gosnmp.Counter64, uint64(1)<<40, float64(uint64(1)<<40), "")
	add("words", gosnmp.OctetString, "café\x00", "café", "")
	add("mac", gosnmp.OctetString, []byte{0, 0x1b, 0x21, 0xff, 1, 2}, "001b21ff0102", "")
	add("hex", gosnmp.OctetString, "ab", "6162", ", text: hex")
	add("latin", gosnmp.OctetString, "caf\xe9", "caf\uFFFD", ", text: text")
	add("oid", gosnmp.ObjectIdentifier, ".1.3.6.1.4.1.9", "1.3.6.1.4.1.9", "")
	add("address", gosnmp.IPAddress, "192.0.2.1", "192.0.2.1", "")
	add("float", gosnmp.OpaqueFloat, float32(1.5), 1.5, "")
	add("double", gosnmp.OpaqueDouble, 2.25, 2.25, "")
	return objects, points, want
}

// TestTypes also has a point that the agent lacks, which is bad alone, and an
// agent that takes fewer objects than the profile gives it.
func TestTypes(t *testing.T) {
	for _, version := range []string{"1", "2c"} {
		t.Run(version, func(t *testing.T) {
			objects, points, want := everyType()
			if version == "1" { // has no 64 bits, but nobody minds
				want["none"] = "bad: the agent says NoSuchName"
			} else {
				want["none"] = "bad: the agent says noSuchObject"
			}
			b, a := connecttest.NewBroker(t), serve(t, "127.0.0.1:0", objects...)
			a.set(func() { a.most = 4 })
			run(t, b, fmt.Sprintf("name: dev\nversion: %q\naddress: %s\nevery: 20ms\nmax_oids: 8\npoints:\n  - {name: none, oid: 1.3.6.1.5, report: {changes: true}}\n%s", version, a.addr(), points))
			newest(t, b, want)
		})
	}
}

// TestWalk: rows come and go, and no more are read than the profile wants.
func TestWalk(t *testing.T) {
	for _, version := range []string{"1", "2c"} {
		t.Run(version, func(t *testing.T) {
			var objects []gosnmp.SnmpPDU
			for i := range 7 {
				objects = append(objects, number(fmt.Sprintf("%s.2.1.%d", base, i*2), i))
			}
			objects = append(objects, number(base+".2.2.1", 100))
			b, a := connecttest.NewBroker(t), serve(t, "127.0.0.1:0", objects...)
			r := run(t, b, fmt.Sprintf(`name: dev
version: %q
address: %s
every: 20ms
max_repetitions: 3
walks:
  - {name: col, oid: %s.2.1, max_rows: 6, report: {changes: true}}
  - {name: last, oid: %s.2.2, scale: 2, report: {changes: true}}`, version, a.addr(), base[1:], base[1:]))
			want := map[string]any{"col.0": 0.0, "col.2": 1.0, "col.4": 2.0, "col.6": 3.0, "col.8": 4.0, "col.10": 5.0, "last.1": 200.0}
			newest(t, b, want)
			connecttest.Until(t, "the cut is told", func() bool { return strings.Contains(r.State("dev").Error, "max_rows, 6") })
			a.set(func() { delete(a.objects, base+".2.1.2"); a.objects[base+".2.1.4"] = number(base+".2.1.4", 42) })
			want["col.2"], want["col.4"], want["col.12"] = "bad: the agent does not have it any more", 42.0, 6.0
			newest(t, b, want)
			connecttest.Until(t, "nothing is wrong any more", func() bool { return r.State("dev").Error == "" })
		})
	}
}

// TestCircles: an agent that never comes to an end is not followed.
func TestCircles(t *testing.T) {
	b, a := connecttest.NewBroker(t), serve(t, "127.0.0.1:0", number(base+".2.1.1", 1), number(base+".2.1.2", 1))
	a.set(func() {
		a.mangle = func(out []byte) []byte {
			return []byte(strings.Replace(string(out), "\x02\x01\x02\x02\x01\x01", "\x02\x01\x01\x02\x01\x01", 1))
		}
	})
	r := run(t, b, fmt.Sprintf("name: dev\naddress: %s\nwalks: [{name: w, oid: %s.2}]", a.addr(), base[1:]))
	connecttest.Until(t, "it is told", func() bool { return strings.Contains(r.State("dev").Error, "in circles") })
}

// TestAway: all points are bad, once, until the agent is back; so they are
// when it says what is no answer.
func TestAway(t *testing.T) {
	b, at := connecttest.NewBroker(t), connecttest.FreeAddress(t)
	a := serve(t, at, number(base+".1.0", 1), number(base+".2.1", 2))
	r := run(t, b, fmt.Sprintf("name: dev\naddress: %s\nevery: 20ms\ntimeout: 100ms\nretries: 0\npoints: [{name: p, oid: %s.1.0}]\nwalks: [{name: w, oid: %s.2}]", at, base[1:], base[1:]))
	b.Read("dev", 2)
	for n, lose := range []func(){a.stop, func() { a.set(func() { a.mangle = func(out []byte) []byte { return out[:len(out)-3] } }) }} {
		restarts := r.State("dev").Restarts
		lose()
		connecttest.Until(t, "two tries", func() bool { return r.State("dev").Restarts >= restarts+2 })
		if n == 0 {
			a = serve(t, at, number(base+".1.0", 1), number(base+".2.1", 2))
		} else {
			a.set(func() { a.mangle = nil })
		}
		bad := map[string]int{}
		for rs := b.Read("dev", 2); ; rs = b.Read("dev", len(rs)+1) {
			bad = map[string]int{}
			last := map[string]string{}
			for _, r := range rs {
				var v reading
				if err := json.Unmarshal(r.Value, &v); err != nil {
					t.Fatal(err)
				}
				if last[v.Point] = v.Quality; v.Quality == "bad" {
					bad[v.Point]++
				}
			}
			if bad["p"] > n && bad["w.1"] > n && last["p"] == "good" && last["w.1"] == "good" {
				break
			}
		}
		if diff := cmp.Diff(map[string]int{"p": n + 1, "w.1": n + 1}, bad); diff != "" {
			t.Errorf("bad readings (-want +got):\n%s", diff)
		}
	}
}

// TestDeaf: what the agent does not answer does not hold up the rest.
func TestDeaf(t *testing.T) {
	b, a := connecttest.NewBroker(t), serve(t, "127.0.0.1:0", number(base+".1.0", 1), number(base+".2.0", 2))
	a.set(func() { a.deaf = base + ".2.0" })
	r := run(t, b, fmt.Sprintf("name: dev\naddress: %s\nevery: 20ms\ntimeout: 100ms\nretries: 0\nmax_oids: 1\npoints:\n  - {name: p, oid: %s.1.0}\n  - {name: q, oid: %s.2.0}", a.addr(), base[1:], base[1:]))
	connecttest.Until(t, "p is read again and again", func() bool { return len(a.asked()) > 30 })
	if s := r.State("dev"); s.Restarts != 0 || !strings.Contains(s.Error, "q: ") {
		t.Errorf("the state is %+v, want an error of q and no restart", s)
	}
	got := latest(t, b.Read("dev", 5))
	if q, _ := got["q"].(string); got["p"] != 1.0 || !strings.HasPrefix(q, "bad: request timeout") {
		t.Errorf("got %v", got)
	}
}

func TestCommands(t *testing.T) {
	objects, _, _ := everyType()
	cfg := site.SNMP{Name: "dev", Version: site.SNMP2c, Timeout: "5s", MaxOIDs: 1, Retries: new(int)}
	add := func(name, oid string, writable bool) {
		yes := true
		cfg.Points = append(cfg.Points, site.SNMPPoint{Name: name, OID: oid[1:], Every: "1h", Scale: 1, Writable: writable, ReadBack: &yes})
	}
	for i, name := range []string{"integer", "scaled", "counter", "gauge", "ticks", "counter64", "words", "mac", "hex", "latin", "oid", "address", "float"} {
		add(name, objects[i].Name, true)
	}
	add("refused", readOnly, true)
	add("fixed", readOnly, false)
	add("lacking", base+".77.0", true)
	cfg.Points[1].Scale, cfg.Points[1].Offset, cfg.Points[8].Text = 0.1, 10, site.SNMPHex
	a := serve(t, "127.0.0.1:0", append(objects, number(readOnly, 1))...)
	cfg.Address = a.addr()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	client, err := c.(*Connector).dial(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Conn.Close()
	s := &session{Connector: c.(*Connector), client: client}
	number := func(text string) any { return json.Number(text) }
	for _, w := range []struct {
		point     string
		value     any
		want      any    // what it holds then
		complaint string // or why not
	}{
		{"integer", number("-7"), int64(-7), ""},
		{"integer", number("3e9"), nil, "does not fit int32"},
		{"scaled", number("12.5"), 12.5, ""},
		{"gauge", number("4294967295"), uint64(4294967295), ""},
		{"gauge", number("-1"), nil, "does not fit uint32"},
		{"ticks", number("15"), uint64(15), ""},
		{"counter64", number("18446744073709551615"), uint64(1<<64 - 1), ""},
		{"words", "tea", "tea", ""},
		{"words", number("1"), nil, "want text"},
		{"hex", "00ff", "00ff", ""},
		{"hex", "0x", nil, "invalid byte"},
		{"oid", "1.3.6", "1.3.6", ""},
		{"oid", "zero", nil, "object identifier"},
		{"address", "192.0.2.77", "192.0.2.77", ""},
		{"address", "::1", nil, "IP version 4"},
		{"float", number("1"), nil, "want text"},
		{"refused", number("2"), nil, "NotWritable"},
		{"fixed", number("2"), nil, "not writable by the profile"},
		{"lacking", number("2"), nil, "not written, for it cannot be read: the agent says noSuchObject"},
		{"nothing", number("2"), nil, "no point \"nothing\""},
	} {
		got, err := s.write(connect.Command{Point: w.point, Value: w.value})
		if got != w.want || (err == nil) != (w.complaint == "") || err != nil && !strings.Contains(err.Error(), w.complaint) {
			t.Errorf("%s = %v: got %v, %v, want %v, %q", w.point, w.value, got, err, w.want, w.complaint)
		}
	}
}
