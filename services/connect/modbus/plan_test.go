package modbus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/connect/decode"
	"github.com/waysideos/wayside/services/site"
)

// pointsAt makes points from "unit/address" or "unit/address*registers", with
// an interval in seconds behind @.
func pointsAt(t testing.TB, texts ...string) []*point {
	t.Helper()
	var points []*point
	for _, text := range texts {
		var unit, every, n int = 1, 1, 1
		rest := text
		if before, after, ok := strings.Cut(rest, "@"); ok {
			fmt.Sscan(after, &every)
			rest = before
		}
		if before, after, ok := strings.Cut(rest, "*"); ok {
			fmt.Sscan(after, &n)
			rest = before
		}
		if before, after, ok := strings.Cut(rest, "/"); ok {
			fmt.Sscan(before, &unit)
			rest = after
		}
		a, err := site.ParseModbusAddress(rest)
		if err != nil {
			t.Fatal(err)
		}
		p := &point{name: text, unit: byte(unit), address: a, every: time.Duration(every) * time.Second, readBack: true}
		spec := decode.Spec{Type: map[int]string{1: "uint16", 2: "uint32"}[n]}
		if spec.Type == "" {
			spec.Type = "string"
		}
		if a.Table.Bits() {
			n = 0
		}
		if p.codec, err = newCodec(spec, n, a.Bit); err != nil {
			t.Fatal(err)
		}
		points = append(points, p)
	}
	return points
}

func shown(spans []*span) []string {
	var out []string
	for _, s := range spans {
		out = append(out, fmt.Sprintf("%d/%s:%d+%d@%s %d", s.unit, s.table, s.start, s.count, s.every, len(s.points)))
	}
	return out
}

func TestPlan(t *testing.T) {
	l := limits{registers: 10, bits: 64, gap: 2}
	tests := map[string]struct{ points, want []string }{
		"neighbours share": {[]string{"holding:1", "holding:0", "holding:2*2"}, []string{"1/holding:0+4@1s 3"}},
		"over a gap":       {[]string{"holding:0", "holding:3"}, []string{"1/holding:0+4@1s 2"}},
		"gap too wide":     {[]string{"holding:0", "holding:4"}, []string{"1/holding:0+1@1s 1", "1/holding:4+1@1s 1"}},
		"device's most":    {[]string{"holding:0*6", "holding:6*4", "holding:10"}, []string{"1/holding:0+10@1s 2", "1/holding:10+1@1s 1"}},
		"same register":    {[]string{"holding:5.0", "holding:5.1", "holding:5*2"}, []string{"1/holding:5+2@1s 3"}},
		"inside another":   {[]string{"holding:0*8", "holding:2"}, []string{"1/holding:0+8@1s 2"}},
		"tables":           {[]string{"holding:0", "input:0"}, []string{"1/holding:0+1@1s 1", "1/input:0+1@1s 1"}},
		"units":            {[]string{"1/holding:0", "2/holding:0"}, []string{"1/holding:0+1@1s 1", "2/holding:0+1@1s 1"}},
		"intervals":        {[]string{"holding:0", "holding:1@5"}, []string{"1/holding:0+1@1s 1", "1/holding:1+1@5s 1"}},
		"bits":             {[]string{"coil:0", "coil:32", "coil:63", "coil:64"}, []string{"1/coil:0+64@1s 3", "1/coil:64+1@1s 1"}},
		"last register":    {[]string{"holding:65535", "holding:65534"}, []string{"1/holding:65534+2@1s 2"}},
	}
	for name, tt := range tests {
		if diff := cmp.Diff(tt.want, shown(plan(pointsAt(t, tt.points...), l))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSplit(t *testing.T) {
	s := plan(pointsAt(t, "holding:0", "holding:1", "holding:2*2"), limits{registers: 125, bits: 2000, gap: 8})[0]
	halves := s.split()
	if diff := cmp.Diff([]string{"1/holding:0+1@1s 1", "1/holding:1+3@1s 2"}, shown(halves)); diff != "" {
		t.Error(diff)
	}
	if halves[0].split() != nil {
		t.Error("one point was split")
	}
}

func TestCut(t *testing.T) {
	s := plan(pointsAt(t, "holding:10", "holding:11*2"), limits{registers: 125, gap: 8})[0]
	answer := []byte{0, 1, 0, 2, 0, 3}
	if got, ok := s.cut(s.points[1], answer); !ok || string(got) != "\x00\x02\x00\x03" {
		t.Errorf("got % x, %v", got, ok)
	}
	if got, ok := s.cut(s.points[1], answer[:5]); ok {
		t.Errorf("of a short answer: got % x", got)
	}
	bits := plan(pointsAt(t, "coil:100", "coil:109"), limits{bits: 64, gap: 2})[0]
	if got, ok := bits.cut(bits.points[1], []byte{0, 2}); !ok || got[0] != 1 {
		t.Errorf("coil: got % x, %v", got, ok)
	}
	if _, ok := bits.cut(bits.points[1], []byte{0}); ok {
		t.Error("a short answer has a tenth bit")
	}
}
