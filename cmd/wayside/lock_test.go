package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/debian"
	"github.com/waysideos/wayside/image/debian/debiantest"
)

// lockArchive offers what the boards ask for, all at version v.
func lockArchive(t *testing.T, a *debiantest.Archive, v string) *debian.Archive {
	t.Helper()
	requests, err := lockRequests(debian.Lock{}, []string{"arm64:extra"})
	if err != nil {
		t.Fatal(err)
	}
	a.Clear()
	for arch, names := range requests {
		for name := range names {
			a.Add(debiantest.Package{Suite: "trixie", Arch: arch, Name: name, Version: v, Deb: []byte(name + v)})
		}
	}
	a.Publish(t)
	return a.Open(t)
}

func TestLockCommand(t *testing.T) {
	a := debiantest.New(t)
	file := filepath.Join(t.TempDir(), "packages.lock.json")
	var out bytes.Buffer
	r, keep := &lockReport{w: &out}, false
	renew := func(archive *debian.Archive, add ...string) string {
		t.Helper()
		out.Reset()
		old, err := readLock(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := renewLock(context.Background(), archive, file, old, add, keep, r); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}

	first := lockArchive(t, a, "1.0")
	if got := renew(first, "arm64:extra"); !strings.Contains(got, "arm64  extra                - -> 1.0\n") {
		t.Errorf("first: got %q", got)
	}
	before, _ := os.ReadFile(file)
	if got := renew(first); !strings.Contains(got, "are the newest") {
		t.Errorf("again: got %q", got)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("the lock was written although nothing changed")
	}

	spoilt := regexp.MustCompile(`"sha256": "..`).ReplaceAll(before, []byte(`"sha256": "00`))
	if err := os.WriteFile(file, spoilt, 0o644); err != nil {
		t.Fatal(err)
	}
	old, err := readLock(file)
	if err != nil {
		t.Fatal(err)
	}
	var mismatch *debian.MismatchError
	if err := renewLock(context.Background(), first, file, old, nil, false, r); !errors.As(err, &mismatch) {
		t.Errorf("lock with other hashes: got %v, want a MismatchError", err)
	}
	if err := os.WriteFile(file, before, 0o644); err != nil {
		t.Fatal(err)
	}

	second := lockArchive(t, a, "1.1")
	if old, err = readLock(file); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	r.json = true
	if err := checkLock(context.Background(), second, old, r); err == nil || !strings.Contains(err.Error(), "`wayside lock`") {
		t.Errorf("check: got %v, want an error with the command", err)
	}
	if want := `{"state":"gone","arch":"arm64","request":"extra","package":"extra","old":"1.0"}`; !strings.Contains(out.String(), want) {
		t.Errorf("check: got %q, want %q in it", &out, want)
	}
	r.json = false
	keep = true
	if got := renew(second); !strings.Contains(got, "none is missing") {
		t.Errorf("with what is locked kept: got %q", got)
	}
	keep = false
	if got := renew(second); !strings.Contains(got, "arm64  extra                1.0 -> 1.1\n") {
		t.Errorf("renewed: got %q", got)
	}
	if old, err = readLock(file); err != nil {
		t.Fatal(err)
	}
	if err := checkLock(context.Background(), second, old, r); err != nil {
		t.Errorf("check after renewal: %v", err)
	}
}

func TestReadLockErrors(t *testing.T) {
	dir := t.TempDir()
	if lock, err := readLock(filepath.Join(dir, "none.json")); err != nil || len(lock.All()) != 0 {
		t.Errorf("no file: got %+v, %v; want an empty lock", lock, err)
	}
	if _, err := readLock(filepath.Join(dir, "no", "folder.json")); err == nil || !strings.Contains(err.Error(), "--file FILE") {
		t.Errorf("no folder: got %v", err)
	}
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte("<<<<<<<"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readLock(bad); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("damaged: got %v, want the file's name", err)
	}
}

func TestLockRequests(t *testing.T) {
	if _, err := lockRequests(debian.Lock{}, []string{"ovmf"}); err == nil {
		t.Error("--add without architecture was taken")
	}
	got, err := lockRequests(debian.Lock{}, []string{"riscv64:ovmf"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]bool{"ovmf": true, "ca-certificates": true}, got["riscv64"]); d != "" {
		t.Errorf("riscv64 (-want +got):\n%s", d)
	}
}
