package vault

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/luks"
	"github.com/waysideos/wayside/services/vfs"
)

type memory struct{ b []byte }

func (m *memory) ReadAt(p []byte, off int64) (int, error)  { return copy(p, m.b[off:]), nil }
func (m *memory) WriteAt(p []byte, off int64) (int, error) { return copy(m.b[off:], p), nil }
func (m *memory) Sync() error                              { return nil }

func newMemory() *memory { return &memory{make([]byte, luks.DataOffset+1<<20)} }

func newVault(wanted bool, typed string) *Vault {
	return New(Config{
		Wanted: wanted, Random: rand.Reader, Log: slog.New(slog.DiscardHandler),
		Typed: func() (string, error) { return typed, nil },
	})
}

const someKey = "abcd-efgh-ijkl-mnop-qrst-uvwx-yz23-4567"

// volume is a partition that was encrypted, opened by someKey.
func volume(t *testing.T) (*memory, []byte) {
	t.Helper()
	d := newMemory()
	key, err := luks.Format(d, rand.Reader, "x", luks.Entry{Passphrase: []byte(someKey)})
	if err != nil {
		t.Fatal(err)
	}
	return d, key
}

func TestPlain(t *testing.T) {
	d := newMemory()
	d.b[1024+0x38], d.b[1024+0x39] = 0x53, 0xef // an ext4 superblock
	for _, wanted := range []bool{false, true} {
		before := bytes.Clone(d.b)
		v := newVault(wanted, "")
		key, err := v.Open(layout.State, d, int64(len(d.b)))
		if key != nil || err != nil || v.How() != Plain || !bytes.Equal(before, d.b) {
			t.Errorf("wanted %v: got key %x, %v, %q; want it plain and untouched", wanted, key, err, v.How())
		}
		if wanted != (len(v.Problems()) == 1) {
			t.Errorf("wanted %v: problems %q", wanted, v.Problems())
		}
	}
	v := newVault(false, "")
	if key, err := v.Open(layout.Data, newMemory(), luks.DataOffset+1<<20); key != nil || err != nil {
		t.Errorf("empty and not wanted: %x, %v", key, err)
	}
}

// TestNoPlainInstead wants nothing written where encryption is asked for and
// cannot be had.
func TestNoPlainInstead(t *testing.T) {
	v := newVault(true, "")
	for role, want := range map[layout.Role]string{layout.State: "no TPM", layout.Data: "encrypted"} {
		d := newMemory()
		key, err := v.Open(role, d, int64(len(d.b)))
		if key != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %x, %v, want an error with %q", role, key, err, want)
		}
		if !bytes.Equal(d.b, newMemory().b) {
			t.Errorf("%s was written to", role)
		}
	}
	if v.How() != Locked {
		t.Errorf("got %q, want locked", v.How())
	}
}

func TestRecoveryKeyOpens(t *testing.T) {
	d, want := volume(t)
	for typed, ok := range map[string]bool{
		someKey: true, strings.ToUpper(someKey) + "\r\n": true, strings.ReplaceAll(someKey, "-", " "): true,
		"": false, "abcd": false, strings.Replace(someKey, "a", "b", 1): false,
	} {
		v := newVault(false, typed)
		key, err := v.Open(layout.State, d, int64(len(d.b)))
		switch {
		case ok && (err != nil || !bytes.Equal(key, want) || v.How() != ByPerson):
			t.Errorf("%q: got %v, %q", typed, err, v.How())
		case !ok && (err == nil || v.How() != Locked || !strings.Contains(err.Error(), layout.ESPRecovery)):
			t.Errorf("%q: got %v, %q; want it locked, and what to do", typed, err, v.How())
		}
	}
}

// TestKeepAfterACut has a first boot end before the key was kept: the next one
// makes another key, shows it, and that one opens.
func TestKeepAfterACut(t *testing.T) {
	d, want := volume(t)
	v := newVault(true, someKey)
	if _, err := v.Open(layout.State, d, int64(len(d.b))); err != nil {
		t.Fatal(err)
	}
	state := vfs.NewCrashable(1)
	fresh, err := v.Keep(state)
	if err != nil || fresh == "" || fresh == someKey {
		t.Fatalf("got %q, %v, want another key", fresh, err)
	}
	again := newVault(true, fresh)
	key, err := again.Open(layout.State, d, int64(len(d.b)))
	if err != nil || !bytes.Equal(key, want) {
		t.Errorf("the new key does not open: %v", err)
	}
	if shown, err := again.Keep(state); shown != "" || err != nil {
		t.Errorf("the key is shown again: %q, %v", shown, err)
	}
	if _, err := newVault(true, someKey).Open(layout.State, d, int64(len(d.b))); err == nil {
		t.Error("the key that nobody was shown still opens")
	}
}

func TestTable(t *testing.T) {
	want := "aes-xts-plain64 " + strings.Repeat("ab", 64) + " 0 254:3 32768 1 allow_discards"
	if got := Table(bytes.Repeat([]byte{0xab}, 64), "254:3"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
