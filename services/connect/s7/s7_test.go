package s7

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// profile is one S7 connection of a profile that is these lines of YAML.
func profile(t testing.TB, text string) site.S7 {
	t.Helper()
	p, err := site.Parse("test", []byte("version: 1\nsite: a\nconnect:\n  s7:\n    - name: mixer\n      "+strings.ReplaceAll(text, "\n", "\n      ")))
	if err != nil {
		t.Fatal(err)
	}
	return p.Connect.S7[0]
}

func connector(t testing.TB, m site.S7) *Connector {
	t.Helper()
	c, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*Connector)
}

func TestTypes(t *testing.T) {
	tests := []struct {
		address, raw string
		want         any
	}{
		{"M0.3", "\x08", true},
		{"MB0", "\xff", uint64(255)},
		{"MB0 SINT", "\xff", int64(-1)},
		{"MB0 CHAR", "A", "A"},
		{"MW0 INT", "\xff\xd6", int64(-42)},
		{"MD0 REAL", "\x41\xac\x00\x00", 21.5},
		{"MD0 TIME", "\x00\x00\x05\xdc", int64(1500)},
		{"MB0 LINT", "\xff\xff\xff\xff\xff\xff\xff\xfe", int64(-2)},
		{"MB0 LREAL", "\x40\xfe\x24\x00\x00\x00\x00\x00", 123456.0},
		{"MB0 STRING[8]", "\x08\x05H\xe4llo...", "Hällo"},
		{"MB0 DT", "\x26\x11\x28\x14\x30\x05\x12\x37", time.Date(2026, 11, 28, 14, 30, 5, 123e6, time.UTC)},
		{"MB0 DTL", "\x07\xea\x0b\x1c\x07\x0e\x1e\x05\x00\x00\x00\x07", time.Date(2026, 11, 28, 14, 30, 5, 7, time.UTC)},
	}
	for _, tt := range tests {
		a, err := site.ParseS7Address(tt.address)
		if err != nil {
			t.Fatal(err)
		}
		c, err := newCodec(a, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.decode([]byte(tt.raw))
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", tt.address, err, diff)
		}
		if _, isTime := got.(time.Time); isTime {
			continue
		}
		back, err := c.encode(got)
		want := tt.raw
		switch a.Type {
		case "BOOL":
			want = "\x01"
		case "STRING":
			want = tt.raw[:7]
		}
		if string(back) != want || err != nil {
			t.Errorf("%s: write %v: % x, %v, want % x", tt.address, got, back, err, want)
		}
	}
	for address, raw := range map[string]string{"MB0 STRING[3]": "\x03\x04abc", "MB0 DT": "\x26\x1f\x28\x14\x30\x05\x12\x37", "MB0 DTL": "\x07\xea\x0d\x1c\x07\x0e\x1e\x05\x00\x00\x00\x07", "MW0": "\x01"} {
		a, _ := site.ParseS7Address(address)
		c, _ := newCodec(a, 1, 0)
		if got, err := c.decode([]byte(raw)); err == nil {
			t.Errorf("%s of % x: got %v, want an error", address, raw, got)
		}
	}
}

func TestPlan(t *testing.T) {
	c := connector(t, profile(t, `address: h:102
points:
  - {name: a, address: DB1.DBW0}
  - {name: b, address: DB1.DBX2.0}
  - {name: c, address: DB1.DBD18}
  - {name: d, address: DB1.DBW39}
  - {name: e, address: DB2.DBW0}
  - {name: f, address: MW0}
  - {name: g, address: DB1.DBW4, every: 5s}
  - {name: long, address: "DB3.DBB0 STRING[254]"}
`))
	var got []string
	for _, p := range plan(c.points, 240) {
		got = append(got, fmt.Sprintf("%x %d %d+%d %d", p.area, p.db, p.start, p.size, len(p.points)))
	}
	want := []string{"83 0 0+2 1", "84 1 0+22 3", "84 1 39+2 1", "84 2 0+2 1", "84 3 0+222 1", "84 1 4+2 1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

// TestPack: no job and no answer is longer than was agreed.
func TestPack(t *testing.T) {
	text := "address: h:102\npoints:\n"
	for i := range 60 {
		text += fmt.Sprintf("  - {name: p%d, address: DB%d.DBB0 LREAL}\n", i, i+1)
	}
	c := connector(t, profile(t, text))
	for _, pdu := range []int{240, 480, 960} {
		pieces, packed := plan(c.points, pdu), 0
		for len(pieces) > 0 {
			first := pack(pieces, pdu)
			items, answer := make([]item, len(first)), ackSize+2
			for i, p := range first {
				items[i] = p.item
				answer += 4 + p.size
			}
			if n := len(readJob(1, items)) - isoSize; n > pdu || answer > pdu || len(first) > 20 || len(first) == 0 {
				t.Fatalf("%d: a job of %d items has %d bytes, its answer %d", pdu, len(first), n, answer)
			}
			pieces = pieces[len(first):]
			packed += len(first)
		}
		if packed != 60 {
			t.Errorf("%d: %d items are in jobs, want 60", pdu, packed)
		}
	}
}

// TestMalformedAnswers: none of them is taken for a value.
func TestMalformedAnswers(t *testing.T) {
	items := []item{{area: site.S7DB, db: 1, size: 3, bit: -1}, {area: site.S7DB, db: 2, size: 2, bit: -1}}
	p := &plc{blocks: map[int][]byte{1: {1, 2, 3, 4}, 2: {5, 6}}}
	good := func() []byte { return p.answer(readJob(7, items)) }
	if rs, err := readAnswer(good(), 7, items); err != nil || string(rs[0].data) != "\x01\x02\x03" || string(rs[1].data) != "\x05\x06" {
		t.Fatalf("got %v, %v", rs, err)
	}
	for n := range len(good()) {
		if rs, err := readAnswer(good()[:n], 7, items); err == nil {
			t.Errorf("of its first %d bytes: %v", n, rs)
		}
	}
	for name, change := range map[string]func(b []byte){
		"other job":       func(b []byte) { b[12]++ },
		"other function":  func(b []byte) { b[19] = writeVar },
		"fewer items":     func(b []byte) { b[20] = 1 },
		"more items":      func(b []byte) { b[20] = 3 },
		"another length":  func(b []byte) { b[24] = 16 },
		"a great length":  func(b []byte) { b[23] = 255 },
		"much data":       func(b []byte) { binary.BigEndian.PutUint16(b[15:], 999) },
		"much parameters": func(b []byte) { binary.BigEndian.PutUint16(b[13:], 999) },
		"refused":         func(b []byte) { b[17], b[18] = 0x81, 4 },
		"user data":       func(b []byte) { b[8] = 7 },
	} {
		b := good()
		change(b)
		if rs, err := readAnswer(b, 7, items); err == nil {
			t.Errorf("%s: got %v", name, rs)
		}
	}
}

// TestOtherSize: a well-formed answer of another size than was asked for is
// none.
func TestOtherSize(t *testing.T) {
	p := &plc{blocks: map[int][]byte{1: {1, 2, 3, 4}}}
	asked := []item{{area: site.S7DB, db: 1, size: 4, bit: -1}}
	for _, size := range []int{1, 2, 3} {
		b := p.answer(readJob(7, []item{{area: site.S7DB, db: 1, size: size, bit: -1}}))
		if rs, err := readAnswer(b, 7, asked); err == nil {
			t.Errorf("%d bytes for 4: %v", size, rs)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	items := []item{{area: site.S7DB, db: 1, size: 3, bit: -1}, {area: site.S7DB, db: 2, size: 2, bit: -1}, {area: site.S7DB, db: 3, size: 1, bit: -1}}
	p := &plc{blocks: map[int][]byte{1: {1, 2, 3, 4}, 2: {5, 6}}}
	f.Add(p.answer(readJob(7, items)))
	f.Add(p.answer(writeJob(7, items[0], []byte{1, 2, 3})))
	f.Fuzz(func(t *testing.T, b []byte) {
		if rs, err := readAnswer(b, 7, items); err == nil {
			for i, r := range rs {
				if r.code == codeOK && len(r.data) != items[i].size {
					t.Errorf("item %d has %d bytes", i, len(r.data))
				}
			}
		}
		_ = writeAnswer(b, 7)
		_, _ = userDataAnswer(b)
	})
}

func TestWrite(t *testing.T) {
	p := startPLC(t)
	p.blocks[1] = make([]byte, 30)
	p.blocks[1][0] = 0xff
	c := connector(t, profile(t, fmt.Sprintf(`address: %s
points:
  - {name: level, address: DB1.DBW2 INT, scale: 0.5, writable: true}
  - {name: run, address: DB1.DBX0.3, writable: true}
  - {name: text, address: "DB1.DBB10 STRING[8]", writable: true}
  - {name: fixed, address: DB1.DBW2}
  - {name: gone, address: DB9.DBW2, writable: true}
`, p.addr())))
	l, err := dial(t.Context(), &c.cfg, c.timeout)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	s := &session{Connector: c, link: l}
	for _, tt := range []struct {
		point      string
		give, want any
	}{{"level", json.Number("21.5"), 21.5}, {"run", false, false}, {"text", "Hällo", "Hällo"}} {
		if got, err := s.write(connect.Command{Point: tt.point, Value: tt.give}); err != nil || got != tt.want {
			t.Errorf("%s: %v, %v, want %v", tt.point, got, err, tt.want)
		}
	}
	if got := string(p.blocks[1][:18]); got != "\xf7\x00\x00\x2b\x00\x00\x00\x00\x00\x00\x08\x05H\xe4llo\x00" {
		t.Errorf("the PLC holds % x", got)
	}
	for point, value := range map[string]any{"fixed": json.Number("1"), "other": json.Number("1"), "gone": json.Number("1"), "text": "much too long", "run": "perhaps"} {
		if got, err := s.write(connect.Command{Point: point, Value: value}); err == nil {
			t.Errorf("%s = %v: got %v, want an error", point, value, got)
		}
	}
	p.set(func() {
		p.mangle = func(b []byte) []byte { // whatever is written, it holds something else
			if b[19] == readVar {
				b[len(b)-1] ^= 1
			}
			return b
		}
	})
	if got, err := s.write(connect.Command{Point: "level", Value: json.Number("2")}); err == nil || !strings.Contains(err.Error(), "reads back") {
		t.Errorf("a value that does not stay: %v, %v", got, err)
	}
}
