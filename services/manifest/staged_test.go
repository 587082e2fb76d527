package manifest

import (
	"bytes"
	"errors"
	"testing"
)

func TestStaged(t *testing.T) {
	s := Staged{Version: "1.2.0", Counter: 7, Length: 12345, SHA256: [32]byte{1}, RootHash: [32]byte{2}}
	b, err := s.Encode()
	if err != nil || len(b) != 512 {
		t.Fatalf("got %d bytes, %v, want one sector", len(b), err)
	}
	if got, err := DecodeStaged(b); err != nil || got != s {
		t.Errorf("got %+v, %v, want %+v", got, err, s)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x40
		if got, err := DecodeStaged(bad); err == nil {
			t.Errorf("byte %d altered: got %+v, want an error", i, got)
		}
	}
	if _, err := DecodeStaged(make([]byte, 4096)); !errors.Is(err, ErrNotStaged) {
		t.Errorf("got %v for an empty area, want ErrNotStaged", err)
	}
	for _, bad := range []Staged{{Length: 1}, {Version: "1", Length: 0}, {Version: "1", Length: StagedMax + 1}} {
		if _, err := bad.Encode(); err == nil {
			t.Errorf("%+v: encoded", bad)
		}
	}
}

func FuzzDecodeStaged(f *testing.F) {
	b, err := Staged{Version: "1", Counter: 1, Length: 1}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeStaged(b)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again[:89+len(s.Version)], b[:89+len(s.Version)]) {
			t.Errorf("%+v does not encode to what it was read from: %v", s, err)
		}
	})
}
