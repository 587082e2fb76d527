package writelog

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// made builds a log as QEMU writes it.
func made(entries ...[]byte) []byte {
	le := binary.LittleEndian
	super := make([]byte, Sector)
	le.PutUint64(super, magic)
	le.PutUint64(super[8:], version)
	le.PutUint64(super[16:], uint64(len(entries)))
	le.PutUint32(super[24:], Sector)
	return append(super, bytes.Join(entries, nil)...)
}

func entry(sector, sectors int64, flags uint64, data string) []byte {
	le := binary.LittleEndian
	b := make([]byte, Sector)
	le.PutUint64(b, uint64(sector))
	le.PutUint64(b[8:], uint64(sectors))
	le.PutUint64(b[16:], flags)
	for _, c := range data {
		b = append(b, bytes.Repeat([]byte{byte(c)}, Sector)...)
	}
	return b
}

func TestReplay(t *testing.T) {
	log := made(
		entry(1, 2, 0, "ab"),
		entry(0, 0, flagFlush, ""),
		entry(2, 1, 0, "c"),
		entry(3, 1, flagFUA, "d"),
		entry(1, 1, flagDiscard, ""),
	)
	l, err := Read(bytes.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	base := bytes.NewReader(bytes.Repeat([]byte{'-'}, 5*Sector))
	shown := func(c *Cut) string {
		p := make([]byte, 5*Sector)
		if _, err := c.ReadAt(p, 0); err != nil {
			t.Fatal(err)
		}
		var out []byte
		for i := range 5 {
			b := p[i*Sector]
			if b == 0 {
				b = '0'
			}
			out = append(out, b)
		}
		return string(out)
	}
	r := NewReplay(l, base)
	for n, want := range []string{"-----", "-----", "-ab--", "-ab--", "-abd-", "-abd-"} {
		r.To(n)
		if got := shown(r.Cut(nil)); got != want {
			t.Errorf("after %d entries with nothing un-flushed: got %s, want %s", n, got, want)
		}
	}
	seen := map[string]bool{}
	for i := range 200 {
		seen[shown(r.Cut(rand.New(rand.NewPCG(1, uint64(i)))))] = true
	}
	for _, want := range []string{"-abd-", "-acd-", "-0cd-", "-0bd-"} {
		if !seen[want] {
			t.Errorf("chance never left %s, only %v", want, seen)
		}
	}
	if len(seen) != 4 {
		t.Errorf("got %v, want four", seen)
	}
	if !l.Entries[0].Touches(2*Sector, 1) || l.Entries[0].Touches(3*Sector, Sector) || l.Entries[1].Touches(0, Sector) {
		t.Error("what entries touch is wrong")
	}
}

func TestNoLog(t *testing.T) {
	if _, err := Read(bytes.NewReader(make([]byte, Sector))); err == nil {
		t.Error("zeros pass for a write log")
	}
	if _, err := Read(bytes.NewReader(made(entry(1, 1, 0, "a"), entry(1, 1, 0, ""))[:2*Sector])); err == nil {
		t.Error("a log that was cut short passes for a whole one")
	}
}
