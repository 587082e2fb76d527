package clients

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// fetched returns a folder that make filled once, kept in the user's cache
// under a name that changes with the project below testdata. make works in a
// copy of the project.
func fetched(t *testing.T, project string, make func(dir string) *exec.Cmd) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	fetching.Lock()
	defer fetching.Unlock()
	dir := filepath.Join(cache, "wayside", "test", "clients", project+"-"+hash(t, source(t, project)))
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return dir
	}
	dropOld(t, filepath.Join(filepath.Dir(dir), project+"-????????????"))
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Dir(dir), 0o755), os.CopyFS(dir, os.DirFS(source(t, project)))); err != nil {
		t.Fatal(err)
	}
	insist(t, func() *exec.Cmd {
		cmd := make(dir)
		cmd.Dir = dir
		return cmd
	})
	if err := os.WriteFile(filepath.Join(dir, "complete"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

var fetching sync.Mutex

// dropOld removes what was fetched for other versions of a project, some days
// after: another source tree may be using it.
func dropOld(t *testing.T, pattern string) {
	t.Helper()
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if st, err := os.Stat(dir); err == nil && time.Since(st.ModTime()) > 3*24*time.Hour {
			os.RemoveAll(dir)
		}
	}
}

// insist runs a command that asks a registry, three times if it must.
func insist(t *testing.T, make func() *exec.Cmd) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		cmd := make()
		out, err := cmd.CombinedOutput()
		if err == nil {
			return
		}
		t.Logf("%v: attempt %d: %v\n%s", cmd.Args, attempt, err, out)
		if attempt == 3 {
			t.Fatalf("%v: three attempts failed", cmd.Args)
		}
	}
}

// hash names the content of a folder.
func hash(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", path[len(dir):], len(text), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))[:12]
}
