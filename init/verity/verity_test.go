package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// slot is a partition with two data blocks, superblock and a one-block tree.
func slot(t testing.TB, salt []byte) ([]byte, Pin) {
	t.Helper()
	p := make([]byte, 4*block)
	copy(p, "some data")
	tree := p[3*block:]
	for i := range 2 {
		h := sha256.Sum256(append(bytes.Clone(salt), p[i*block:(i+1)*block]...))
		copy(tree[32*i:], h[:])
	}
	root := sha256.Sum256(append(bytes.Clone(salt), tree...))
	super, le := p[2*block:], binary.LittleEndian
	copy(super, "verity")
	le.PutUint32(super[8:], 1)
	le.PutUint32(super[12:], 1)
	copy(super[32:], "sha256")
	le.PutUint32(super[64:], block)
	le.PutUint32(super[68:], block)
	le.PutUint64(super[72:], 2)
	le.PutUint16(super[80:], uint16(len(salt)))
	copy(super[88:], salt)
	return p, Pin{root[:], 2}
}

func TestCheck(t *testing.T) {
	for _, salt := range [][]byte{nil, []byte("0123456789abcdef0123456789abcdef")} {
		p, pin := slot(t, salt)
		tree, err := Check(bytes.NewReader(p), pin)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(tree.Salt, salt) {
			t.Errorf("got salt %q, want %q", tree.Salt, salt)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for name, spoil := range map[string]func(p []byte, pin *Pin){
		"tree":        func(p []byte, _ *Pin) { p[3*block] ^= 1 },
		"salt":        func(p []byte, _ *Pin) { p[2*block+88] ^= 1 },
		"magic":       func(p []byte, _ *Pin) { p[2*block] ^= 1 },
		"version":     func(p []byte, _ *Pin) { p[2*block+8] = 2 },
		"algorithm":   func(p []byte, _ *Pin) { p[2*block+32] = 'x' },
		"block size":  func(p []byte, _ *Pin) { p[2*block+65] = 1 },
		"data blocks": func(p []byte, _ *Pin) { p[2*block+72] = 3 },
		"salt size":   func(p []byte, _ *Pin) { p[2*block+81] = 2 },
		"pinned hash": func(_ []byte, pin *Pin) { pin.RootHash = bytes.Repeat([]byte{1}, 32) },
	} {
		p, pin := slot(t, []byte("salt"))
		spoil(p, &pin)
		if _, err := Check(bytes.NewReader(p), pin); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want ErrMismatch", name, err)
		}
	}
	p, pin := slot(t, nil)
	if _, err := Check(bytes.NewReader(p[:3*block]), pin); err == nil || errors.Is(err, ErrMismatch) {
		t.Errorf("short partition: got %v, want a read error", err)
	}
}

func TestParsePin(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	if pin, err := ParsePin(hash, "77"); err != nil || pin.DataBlocks != 77 || pin.RootHash[31] != 0xab {
		t.Errorf("got %+v, %v", pin, err)
	}
	for _, bad := range [][2]string{{"", "77"}, {hash[2:], "77"}, {"zz" + hash[2:], "77"}, {hash, ""}, {hash, "0"}, {hash, "-1"}} {
		if pin, err := ParsePin(bad[0], bad[1]); err == nil {
			t.Errorf("ParsePin(%q, %q): got %+v, want an error", bad[0], bad[1], pin)
		}
	}
}

func TestTarget(t *testing.T) {
	tree := &Tree{Pin{bytes.Repeat([]byte{0xab}, 32), 77}, []byte{1, 2}}
	want := "1 254:2 254:2 4096 4096 77 78 sha256 " + strings.Repeat("ab", 32) + " 0102"
	if got := tree.target("254:2"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzCheck(f *testing.F) {
	p, pin := slot(f, []byte("salt"))
	f.Add(p[2*block:])
	f.Fuzz(func(t *testing.T, behind []byte) {
		if _, err := Check(bytes.NewReader(append(make([]byte, 2*block), behind...)), pin); err == nil && !bytes.Equal(behind[block:2*block], p[3*block:4*block]) {
			t.Error("another tree passed")
		}
	})
}
