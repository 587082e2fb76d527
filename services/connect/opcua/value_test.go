package opcua

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopcua/opcua/ua"

	"github.com/waysideos/wayside/services/connect"
)

func TestValueOf(t *testing.T) {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ in, want any }{
		{true, true}, {int8(-5), int64(-5)}, {uint16(65535), uint64(65535)}, {float32(21.4), 21.4}, {1.5, 1.5},
		{"text", "text"}, {at, at}, {[]byte{1, 2}, []byte{1, 2}}, {[]int16{1, -2}, []any{int64(1), int64(-2)}},
		{&ua.LocalizedText{Text: "warm"}, "warm"}, {&ua.QualifiedName{Name: "q"}, "q"}, {ua.NewStringNodeID(2, "n"), "ns=2;s=n"},
		{[]string{}, []any{}}, {ua.StatusBadSensorFailure, ua.StatusBadSensorFailure.Error()},
	} {
		if diff := cmp.Diff(c.want, valueOf(ua.MustVariant(c.in))); diff != "" {
			t.Errorf("%T (-want +got):\n%s", c.in, diff)
		}
	}
	if valueOf(nil) != nil || valueOf(&ua.Variant{}) != nil {
		t.Error("no value is not nil")
	}
}

func TestVariantOf(t *testing.T) {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	n := func(s string) json.Number { return json.Number(s) }
	for _, c := range []struct {
		in   any
		typ  ua.TypeID
		list bool
		want any // nil: refused
	}{
		{true, ua.TypeIDBoolean, false, true},
		{n("1"), ua.TypeIDBoolean, false, nil},
		{n("-128"), ua.TypeIDSByte, false, int8(-128)},
		{n("128"), ua.TypeIDSByte, false, nil},
		{n("70000"), ua.TypeIDInt16, false, nil},
		{n("-1"), ua.TypeIDUint32, false, nil},
		{n("18446744073709551615"), ua.TypeIDUint64, false, uint64(1<<64 - 1)},
		{n("1.5"), ua.TypeIDInt32, false, nil},
		{n("1e39"), ua.TypeIDFloat, false, nil},
		{n("1.5"), ua.TypeIDFloat, false, float32(1.5)},
		{"1.5", ua.TypeIDDouble, false, nil},
		{"on", ua.TypeIDString, false, "on"},
		{n("1"), ua.TypeIDString, false, nil},
		{"2026-11-28T12:00:00Z", ua.TypeIDDateTime, false, at},
		{"AQI=", ua.TypeIDByteString, false, []byte{1, 2}},
		{"no", ua.TypeIDByteString, false, nil},
		{[]any{n("1"), n("2")}, ua.TypeIDUint16, true, []uint16{1, 2}},
		{[]any{n("1"), "x"}, ua.TypeIDUint16, true, nil},
		{n("1"), ua.TypeIDUint16, true, nil},
		{[]any{n("1")}, ua.TypeIDUint16, false, nil},
		{"x", ua.TypeIDExtensionObject, false, nil},
		{[]any{"x"}, ua.TypeIDExtensionObject, true, nil},
		{nil, ua.TypeIDInt32, false, nil},
	} {
		v, err := variantOf(c.in, c.typ, c.list)
		if c.want == nil {
			if err == nil {
				t.Errorf("%v as type %d: taken as %v", c.in, c.typ, v.Value())
			}
			continue
		}
		if err != nil {
			t.Errorf("%v as type %d: %v", c.in, c.typ, err)
			continue
		}
		if diff := cmp.Diff(c.want, v.Value()); diff != "" {
			t.Errorf("%v as type %d (-want +got):\n%s", c.in, c.typ, diff)
		}
	}
}

func TestQuality(t *testing.T) {
	for s, want := range map[ua.StatusCode]connect.Quality{
		ua.StatusOK: connect.Good, ua.StatusGoodClamped: connect.Good, ua.StatusUncertainLastUsableValue: connect.Uncertain, ua.StatusBadSensorFailure: connect.Bad,
	} {
		if got := quality(s); got != want {
			t.Errorf("%v: %v, want %v", s, got, want)
		}
	}
}
