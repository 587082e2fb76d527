package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

// streamOf is a stream of what is in text; its room is for 1000 bytes.
func streamOf(t testing.TB, text string) (*stream, *room) {
	r := newRoom(1000, 1000)
	return newStream(&arriving{ctx: t.Context(), r: strings.NewReader(text), room: r, caller: "c", most: 600}), r
}

func TestStreamGivesBackWhatItTook(t *testing.T) {
	s, r := streamOf(t, strings.Repeat(`{"value":{"type":"JSON","data":"`+strings.Repeat("x", 400)+`"}} `, 20))
	n := 0
	for ; ; n++ {
		var in recordV3
		size, err := s.next(&in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.used < size || r.used > 1000 {
			t.Fatalf("record %d of %d bytes: %d are held", n, size, r.used)
		}
		r.give("c", size)
	}
	s.leave()
	if n != 20 || r.used != 0 || len(r.by) != 0 {
		t.Errorf("%d records, %d bytes are held by %v", n, r.used, r.by)
	}
}

func TestStreamBoundsARecord(t *testing.T) {
	s, r := streamOf(t, `{"value":"`+strings.Repeat("x", 800)+`"}`)
	if _, err := s.next(&recordV3{}); !errors.Is(err, errTooMuch) {
		t.Errorf("got %v", err)
	}
	s.leave()
	if r.used != 0 {
		t.Errorf("%d bytes are held", r.used)
	}
}

// FuzzRecords: whatever comes on a stream, its records are what JSON says, and
// all room is given back.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"partition_id":1,"headers":[{"name":"h","value":"SGVhZGVy"}],"key":{"type":"BINARY","data":"Zm9v"},"value":{"type":"JSON","data":{"foo":"bar"}}}`))
	f.Add([]byte(`{"value":{"type":"STRING","data":"text"},"timestamp":"2021-02-05T19:14:42Z"}{"value":{"type":"AVRO","data":"x"}} 7`))
	f.Add([]byte(`{"records":[{"value":1},{"key":null,"value":"S2Fma2E=","partition":0}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, r := streamOf(t, string(b))
		for {
			var in recordV3
			size, err := s.next(&in)
			if err != nil {
				break
			}
			if v, err := in.Value.bytes(); err == nil && v != nil && in.Value.Type == "JSON" && !json.Valid(v) {
				t.Errorf("a value is %q", v)
			}
			_, _ = in.Key.bytes()
			r.give("c", size)
		}
		s.leave()
		if r.used != 0 {
			t.Errorf("%d bytes are held", r.used)
		}
		var in produceV2
		if decode(b, &in) == nil {
			for _, rec := range in.Records {
				_, _ = embedded(typeBinary, rec.Value)
				if v, err := embedded(typeJSON, rec.Value); err != nil || v != nil && !json.Valid(v) {
					t.Errorf("a value is %q, %v", v, err)
				}
			}
		}
		for _, line := range lines(b) {
			if len(line) == 0 || bytes.ContainsAny(line, "\n") {
				t.Errorf("a line is %q", line)
			}
		}
	})
}
