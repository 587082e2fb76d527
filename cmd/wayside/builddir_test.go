package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestLeftBuildDirs: what a killed build left goes, what another build is in
// stays, and so does what is too young to say.
func TestLeftBuildDirs(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	old := time.Now().Add(-2 * youngest)
	held, removeHeld, err := newBuildDir()
	if err != nil {
		t.Fatal(err)
	}
	left, young := filepath.Join(os.TempDir(), buildDirs+"1"), filepath.Join(os.TempDir(), buildDirs+"2")
	for _, dir := range []string{left, young} {
		if err := os.MkdirAll(filepath.Join(dir, "init"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{held, left} {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	mine, removeMine, err := newBuildDir()
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{held: true, left: false, young: true, mine: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: is there: %v, want %v", filepath.Base(dir), err == nil, want)
		}
	}
	removeMine()
	removeHeld()
	if dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), buildDirs+"*")); len(dirs) != 1 || dirs[0] != young {
		t.Errorf("in the end there are %v", dirs)
	}
}
