package debian

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func locked(arch, request, name, version string) LockedPackage {
	return LockedPackage{Arch: arch, Request: request, Name: name, Version: version, Archive: Main,
		Filename: "pool/main/" + name + ".deb", Size: 7, SHA256: strings.Repeat("0f", 32)}
}

func lockOf(packages ...LockedPackage) Lock {
	l := Lock{Format: LockFormat, Suite: Suite, Date: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Packages: map[string]map[string]LockedPackage{}}
	for _, p := range packages {
		if l.Packages[p.Arch] == nil {
			l.Packages[p.Arch] = map[string]LockedPackage{}
		}
		l.Packages[p.Arch][p.Request] = p
	}
	return l
}

const goldenLock = `{
  "format": 1,
  "suite": "trixie",
  "date": "2026-02-03T04:05:06Z",
  "packages": {
    "amd64": {
      "linux-image-amd64": {
        "name": "linux-image-6.12.1+deb13-amd64",
        "version": "6.12.1-1",
        "archive": "main",
        "filename": "pool/main/linux-image-6.12.1+deb13-amd64.deb",
        "size": 7,
        "sha256": "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"
      },
      "ovmf": {
        "name": "ovmf",
        "version": "2025.02-8",
        "archive": "main",
        "filename": "pool/main/ovmf.deb",
        "size": 7,
        "sha256": "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"
      }
    }
  }
}
`

func TestLockRoundTrip(t *testing.T) {
	l := lockOf(locked("amd64", "ovmf", "ovmf", "2025.02-8"), locked("amd64", "linux-image-amd64", "linux-image-6.12.1+deb13-amd64", "6.12.1-1"))
	data, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(goldenLock, string(data)); d != "" {
		t.Errorf("lock file (-want +got):\n%s", d)
	}
	got, err := ParseLock(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(l, got); d != "" {
		t.Errorf("read again (-want +got):\n%s", d)
	}
	if p, err := got.Package("amd64", "ovmf"); err != nil || p.Version != "2025.02-8" {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := got.Package("arm64", "ovmf"); err == nil || !strings.Contains(err.Error(), LockCommand) {
		t.Errorf("got %v, want an error that names the command", err)
	}
}

func TestParseLockErrors(t *testing.T) {
	for _, tc := range []struct{ name, old, new, err string }{
		{"not JSON", "{", "[", "renew it with"},
		{"unknown field", `"suite"`, `"sweet"`, "sweet"},
		{"later format", `"format": 1`, `"format": 2`, "format 2"},
		{"other suite", "trixie", "forky", "forky"},
		{"no date", "2026-02-03T04:05:06Z", "0001-01-01T00:00:00Z", "date is missing"},
		{"other archive", `"archive": "main"`, `"archive": "elsewhere"`, `package "linux-image-amd64" for amd64`},
		{"hash", "0f0f", "0g0f", "no SHA-256"},
		{"upper-case hash", "0f0f", "0F0f", "no SHA-256"},
		{"path", "pool/main/ovmf.deb", "pool/../../etc/passwd", "no path in pool/"},
		{"size", `"size": 7`, `"size": -7`, "size -7"},
		{"version", "2025.02-8", "x y", "no Debian version"},
		{"name", `"name": "ovmf"`, `"name": "../ovmf"`, "no package name"},
		{"requested name", `"ovmf": {`, `"/ovmf": {`, "no package name"},
		{"architecture", `"amd64"`, `"../amd64"`, "no architecture"},
		{"two documents", "\n}\n", "\n}\n{}", "something follows"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(goldenLock, tc.old, tc.new, 1)
			if text == goldenLock {
				t.Fatal("the case changes nothing")
			}
			if _, err := ParseLock([]byte(text)); err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %v, want an error with %q", err, tc.err)
			}
		})
	}
}

func TestLockChanges(t *testing.T) {
	gone, kept := locked("amd64", "aa", "aa", "1"), locked("amd64", "bb", "bb", "1")
	before, after := locked("arm64", "cc", "cc", "1"), locked("arm64", "cc", "cc", "2")
	fresh := locked("arm64", "dd", "dd", "1")
	got := lockOf(gone, kept, before).Changes(lockOf(kept, after, fresh))
	want := []Change{{Old: &gone}, {Old: &before, New: &after}, {New: &fresh}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
}

func FuzzParseLock(f *testing.F) {
	f.Add([]byte(goldenLock))
	f.Add([]byte(`{"format":1,"suite":"trixie","date":"2026-02-03T04:05:06+01:00","packages":{"amd64":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLock(data)
		if err != nil {
			return
		}
		one, err := l.Encode()
		if err != nil {
			t.Fatalf("a lock that was read cannot be written: %v", err)
		}
		again, err := ParseLock(one)
		if err != nil {
			t.Fatal(err)
		}
		if two, err := again.Encode(); err != nil || !bytes.Equal(one, two) {
			t.Errorf("written twice: %q and %q, %v", one, two, err)
		}
	})
}
