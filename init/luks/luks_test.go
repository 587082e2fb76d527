package luks

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// memory is a disk of which nothing is ever lost.
type memory struct{ b []byte }

func (m *memory) ReadAt(p []byte, off int64) (int, error)  { return copy(p, m.b[off:]), nil }
func (m *memory) WriteAt(p []byte, off int64) (int, error) { return copy(m.b[off:], p), nil }
func (m *memory) Sync() error                              { return nil }

func newMemory() *memory { return &memory{make([]byte, DataOffset+1<<20)} }

type testToken struct {
	Type     string   `json:"type"`
	Keyslots []string `json:"keyslots"`
	Blob     []byte   `json:"blob"`
}

var (
	secret  = []byte("what the TPM gives")
	phrase  = []byte("abcd-efgh")
	entries = []Entry{{secret, map[string]any{"type": "test", "blob": []byte{1, 2}}}, {phrase, nil}}
)

func format(t testing.TB, d *memory) []byte {
	t.Helper()
	key, err := Format(d, rand.Reader, "wayside-state", entries...)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestFormatAndOpen(t *testing.T) {
	d := newMemory()
	if is, err := Is(d); is || err != nil {
		t.Errorf("empty partition: %v, %v", is, err)
	}
	if _, err := Open(d, rand.Reader); !errors.Is(err, ErrNone) {
		t.Errorf("empty partition: %v, want ErrNone", err)
	}
	key := format(t, d)
	v, err := Open(d, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{secret, phrase} {
		if got, err := v.Unlock(p); err != nil || !bytes.Equal(got, key) {
			t.Errorf("unlock with %q: %v", p, err)
		}
	}
	if _, err := v.Unlock([]byte("abcd-efgi")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("unlock with a wrong passphrase: %v", err)
	}
	tokens, err := Tokens[testToken](v, "test")
	if err != nil || len(tokens) != 1 || !bytes.Equal(tokens[0].Blob, []byte{1, 2}) {
		t.Errorf("tokens: %+v, %v", tokens, err)
	}
}

func TestReplace(t *testing.T) {
	d := newMemory()
	key := format(t, d)
	v, err := Open(d, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	isTest := func(kind string) bool { return kind == "test" }
	for i := range 6 { // more often than there are slots
		if err := v.Replace(key, isTest, Entry{[]byte{byte(i)}, map[string]any{"type": "test"}}); err != nil {
			t.Fatal(err)
		}
	}
	if v, err = Open(d, rand.Reader); err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{{5}, phrase} {
		if got, err := v.Unlock(p); err != nil || !bytes.Equal(got, key) {
			t.Errorf("unlock with %q: %v", p, err)
		}
	}
	for _, p := range [][]byte{secret, {4}} {
		if _, err := v.Unlock(p); !errors.Is(err, ErrPassphrase) {
			t.Errorf("unlock with the replaced %q: %v", p, err)
		}
	}
}

// TestDamagedCopies loses either copy of the header, as a torn write may.
func TestDamagedCopies(t *testing.T) {
	for _, at := range []int64{0, 5000, headerSize, headerSize + 5000} {
		d := newMemory()
		key := format(t, d)
		d.b[at] ^= 1
		v, err := Open(d, rand.Reader)
		if err != nil {
			t.Errorf("byte %d: %v", at, err)
			continue
		}
		if got, err := v.Unlock(phrase); err != nil || !bytes.Equal(got, key) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	d := newMemory()
	format(t, d)
	d.b[5000] ^= 1
	d.b[headerSize+5000] ^= 1
	if _, err := Open(d, rand.Reader); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("both copies damaged: got %v, want another error than ErrNone", err)
	}
	if is, err := Is(d); !is || err != nil {
		t.Errorf("both copies damaged: got %v, %v; want that it is one", is, err)
	}
}

// write is one write, or a flush (nil).
type write struct {
	off int64
	p   []byte
}

// recorder notes what is written between flushes.
type recorder struct {
	*memory
	log []write
}

func (r *recorder) WriteAt(p []byte, off int64) (int, error) {
	r.log = append(r.log, write{off, bytes.Clone(p)})
	return r.memory.WriteAt(p, off)
}

func (r *recorder) Sync() error {
	r.log = append(r.log, write{})
	return nil
}

// cuts gives the disk as a power cut may leave it: of what was not flushed,
// nothing, or a part, torn at a sector.
func (r *recorder) cuts(start []byte, check func(when string, after *memory)) {
	durable := &memory{bytes.Clone(start)}
	for i, w := range r.log {
		if w.p == nil {
			for j := i - 1; j >= 0 && r.log[j].p != nil; j-- {
				durable.WriteAt(r.log[j].p, r.log[j].off)
			}
			continue
		}
		for _, keep := range []int{0, 512, 4096, 8192, len(w.p) - 512, len(w.p)} {
			if keep < 0 || keep > len(w.p) {
				continue
			}
			after := &memory{bytes.Clone(durable.b)}
			after.WriteAt(w.p[:keep], w.off)
			check("front of a write", after)
			after = &memory{bytes.Clone(durable.b)}
			after.WriteAt(w.p[keep:], w.off+int64(keep))
			check("end of a write", after)
		}
	}
}

// TestPowerCuts cuts the power at every write of a first boot and of a change:
// the first may begin anew, the second always opens.
func TestPowerCuts(t *testing.T) {
	empty := newMemory()
	r := &recorder{memory: newMemory()}
	key, err := Format(r, rand.Reader, "x", entries...)
	if err != nil {
		t.Fatal(err)
	}
	r.cuts(empty.b, func(when string, after *memory) {
		is, err := Is(after)
		if err != nil || !is {
			return // made anew
		}
		v, err := Open(after, rand.Reader)
		if err != nil {
			t.Errorf("format, %s: taken for a volume, and %v", when, err)
			return
		}
		if got, err := v.Unlock(phrase); err != nil || !bytes.Equal(got, key) {
			t.Errorf("format, %s: %v", when, err)
		}
	})
	start := bytes.Clone(r.b)
	r.log = nil
	v, err := Open(r, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Replace(key, func(kind string) bool { return kind == "test" }, Entry{[]byte("new"), map[string]any{"type": "test"}}); err != nil {
		t.Fatal(err)
	}
	r.cuts(start, func(when string, after *memory) {
		v, err := Open(after, rand.Reader)
		if err != nil {
			t.Errorf("replace, %s: %v", when, err)
			return
		}
		if got, err := v.Unlock(phrase); err != nil || !bytes.Equal(got, key) {
			t.Errorf("replace, %s: the other way in: %v", when, err)
		}
		_, oldErr := v.Unlock(secret)
		_, newErr := v.Unlock([]byte("new"))
		if (oldErr == nil) == (newErr == nil) {
			t.Errorf("replace, %s: old %v, new %v; want one of them", when, oldErr, newErr)
		}
	})
}

// TestCryptsetup has the reference implementation read the volume.
func TestCryptsetup(t *testing.T) {
	tool, err := exec.LookPath("cryptsetup")
	if err != nil {
		if tool, err = exec.LookPath("/usr/sbin/cryptsetup"); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	d := newMemory()
	key := format(t, d)
	dir := t.TempDir()
	disk, keyFile := filepath.Join(dir, "disk"), filepath.Join(dir, "key")
	run := func(input []byte, args ...string) (string, error) {
		cmd := exec.Command(tool, args...)
		cmd.Stdin = bytes.NewReader(input)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if err := os.WriteFile(disk, d.b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(nil, "luksDump", disk); err != nil || !strings.Contains(out, "aes-xts-plain64") || !strings.Contains(out, "wayside-state") {
		t.Errorf("luksDump: %v\n%s", err, out)
	}
	for _, p := range [][]byte{secret, phrase} {
		if out, err := run(p, "open", "--test-passphrase", "--key-file", "-", disk); err != nil {
			t.Errorf("open with %q: %v\n%s", p, err, out)
		}
	}
	if _, err := run([]byte("other"), "open", "--test-passphrase", "--key-file", "-", disk); err == nil {
		t.Error("cryptsetup opens with a wrong passphrase")
	}
	out, err := run(phrase, "luksDump", "--dump-volume-key", "--volume-key-file", keyFile, "--key-file", "-", "--batch-mode", disk)
	if got, _ := os.ReadFile(keyFile); err != nil || !bytes.Equal(got, key) {
		t.Errorf("cryptsetup finds another volume key: %v\n%s", err, out)
	}
}

func FuzzOpen(f *testing.F) {
	d := newMemory()
	format(f, d)
	f.Add(d.b[:areas])
	f.Fuzz(func(t *testing.T, head []byte) {
		m := &memory{make([]byte, DataOffset+4096)}
		copy(m.b, head)
		v, err := Open(m, rand.Reader)
		if err != nil {
			return
		}
		for _, k := range v.h.meta.Keyslots {
			if k.KDF.Iterations > 10_000 {
				return // takes its time, and no more
			}
		}
		_, _ = v.Unlock(phrase)
		_, _ = Tokens[testToken](v, "test")
	})
}
