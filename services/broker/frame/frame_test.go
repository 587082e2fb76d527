package frame_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/waysideos/wayside/services/broker/frame"
)

func TestNext(t *testing.T) {
	b := frame.Append(frame.Append(nil, []byte("one")), nil)
	p, rest, err := frame.Next(b)
	if string(p) != "one" || err != nil {
		t.Fatalf("first: got %q, %v", p, err)
	}
	if p, rest, err = frame.Next(rest); p == nil || len(p) != 0 || len(rest) != 0 || err != nil {
		t.Fatalf("empty payload: got %v, rest %v, %v", p, rest, err)
	}
	for i := range b[:11] {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if _, _, err := frame.Next(bad); !errors.Is(err, frame.ErrTorn) {
			t.Errorf("byte %d flipped: got %v, want ErrTorn", i, err)
		}
	}
	if _, _, err := frame.Next(make([]byte, 64)); !errors.Is(err, frame.ErrTorn) {
		t.Errorf("zeros: got %v, want ErrTorn", err)
	}
}

func TestHeader(t *testing.T) {
	h := frame.Header("WAYSTEST", 2)
	if v, err := frame.CheckHeader(h, "WAYSTEST", 3); v != 2 || err != nil {
		t.Errorf("got %d, %v", v, err)
	}
	if _, err := frame.CheckHeader(h, "WAYSTEST", 1); !errors.Is(err, frame.ErrNewer) {
		t.Errorf("newer file: got %v, want ErrNewer", err)
	}
	if _, err := frame.CheckHeader(h, "OTHERONE", 2); err == nil {
		t.Error("another kind of file was taken")
	}
}

func FuzzNext(f *testing.F) {
	f.Add(frame.Append(nil, []byte("payload")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			p, rest, err := frame.Next(b)
			if err != nil || p == nil {
				return
			}
			if again := frame.Append(nil, p); !bytes.Equal(again, b[:len(b)-len(rest)]) {
				t.Fatalf("frame does not encode to what was read")
			}
			b = rest
		}
	})
}
