package encode

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/avro"
)

var at = time.UnixMilli(1_764_338_400_123)

func reading(v any) Reading {
	return Reading{Connector: "press", Point: "temp", Address: "holding:1", Value: v, Unit: "°C", Quality: 1, Time: at, BoxTime: at.Add(time.Second), Detail: "why"}
}

func TestAvro(t *testing.T) {
	for _, tt := range []struct{ in, want any }{
		{nil, nil}, {true, true}, {int64(-5), int64(-5)}, {uint64(7), int64(7)}, {uint64(1 << 63), float64(1 << 63)}, {21.5, 21.5},
		{"text", "text"}, {[]byte{0, 1}, []byte{0, 1}}, {at, "2025-11-28T14:00:00.123Z"}, {[]any{int64(1), "a"}, `[1,"a"]`},
	} {
		b, err := Avro(reading(tt.in))
		if err != nil {
			t.Errorf("%v: %v", tt.in, err)
			continue
		}
		var got map[string]any
		if _, err := avro.MustParse(Schema).DecodeSingleObject(b, &got); err != nil {
			t.Errorf("%v: decode: %v", tt.in, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got["value"]); diff != "" {
			t.Errorf("value %v (-want +got):\n%s", tt.in, diff)
		}
		if got["quality"] != "uncertain" || got["unit"] != "°C" || got["point"] != "temp" {
			t.Errorf("got %v", got)
		}
	}
}

// Google's compiler reads what is written, where it is installed.
func TestProtobuf(t *testing.T) {
	want := "0a057072657373120474656d701a09686f6c64696e673a31"
	b := Protobuf(reading(21.5))
	if got := hexOf(b); !strings.HasPrefix(got, want) {
		t.Fatalf("got %s, want it to begin with %s", got, want)
	}
	protoc, err := exec.LookPath("protoc")
	if err != nil {
		t.Log("protoc is not installed: only the beginning was compared")
		return
	}
	for v, line := range map[any]string{21.5: "double_value: 21.5", int64(-5): "int_value: -5", uint64(1 << 63): "uint_value: 9223372036854775808", false: "bool_value: false", "a": `string_value: "a"`} {
		cmd := exec.Command(protoc, "--decode=io.wayside.connect.Reading", "reading.proto")
		cmd.Stdin, cmd.Stderr = strings.NewReader(string(Protobuf(reading(v)))), os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []string{line, "quality: UNCERTAIN", "time_ms: 1764338400123", "box_time_ms: 1764338401123", `detail: "why"`} {
			if !strings.Contains(string(out), l+"\n") {
				t.Errorf("%v: protoc reads\n%swant %s", v, out, l)
			}
		}
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}
