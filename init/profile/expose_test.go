package profile

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func TestExpose(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	for _, files := range []set{oldSet, newSet} {
		must(t, Expose(dir, os.Getuid(), os.Getgid(), files))
		got := set{}
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range entries {
			info, err := e.Info()
			must(t, err)
			if info.Mode() != 0o640 {
				t.Errorf("%s: got mode %v, want 0640", e.Name(), info.Mode())
			}
			got[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name()))
			must(t, err)
		}
		expectSet(t, files, got, nil)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("folder: got %v, %v, want mode 0750", info.Mode(), err)
	}
}

// While one folder takes another's place there always is one: a service would
// take a moment without for a profile whose files are missing.
func TestExposeUnderReaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	must(t, Expose(dir, os.Getuid(), os.Getgid(), oldSet))
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(done)
	wg.Go(func() {
		for {
			if _, err := os.Stat(dir); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for range 500 {
		must(t, Expose(dir, os.Getuid(), os.Getgid(), newSet))
	}
	if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v, want nothing beside the folder", entries, err)
	}
}

// A file system that cannot exchange two names has the new folder all the same.
func TestExposeWithoutExchange(t *testing.T) {
	for _, err := range []error{syscall.EINVAL, syscall.ENOSYS} {
		root := t.TempDir()
		next, dir := filepath.Join(root, "secrets.new"), filepath.Join(root, "secrets")
		for _, d := range []string{next, dir, dir + ".old"} {
			must(t, os.Mkdir(d, 0o700))
			must(t, os.WriteFile(filepath.Join(d, "key"), []byte(d), 0o600))
		}
		must(t, takePlace(next, dir, func(string, string) error { return err }))
		if got, err := os.ReadFile(filepath.Join(dir, "key")); err != nil || string(got) != next {
			t.Errorf("got %q, %v, want the new folder", got, err)
		}
		if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 {
			t.Errorf("got %v, %v, want nothing beside the folder", entries, err)
		}
	}
	if err := takePlace("a", "b", func(string, string) error { return syscall.EACCES }); err == nil {
		t.Error("a refusal was no error")
	}
}
