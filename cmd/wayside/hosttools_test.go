package main

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"testing"
)

// onEveryDebian are programs of packages that every Debian has (apt, dash,
// coreutils, diffutils), sudo, which is asked for where it is used, and go,
// without which nothing here was built.
var onEveryDebian = []string{"apt-cache", "cmp", "cp", "dd", "df", "du", "go", "sh", "sudo", "true", "truncate"}

// toolCall finds the name of a program in a call that runs it or looks for it.
var toolCall = regexp.MustCompile(`(?:exec\.(?:Command|LookPath)\(|exec\.CommandContext\([^",]+, |\b(?:Tool|Run|TryRun)\(t, )"([^"]+)"`)

func TestEveryToolThatIsCalledIsInTheTable(t *testing.T) {
	known := slices.Clone(onEveryDebian)
	for _, h := range hostTools {
		known = append(known, h.name)
	}
	tree := os.DirFS("../..")
	called := map[string]string{}
	err := fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(file) != ".go" || strings.HasSuffix(file, "_darwin.go") {
			return err
		}
		text, err := fs.ReadFile(tree, file)
		for _, m := range toolCall.FindAllStringSubmatch(string(text), -1) {
			called[path.Base(m[1])] = file
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(called, "exe")            // /proc/self/exe: the test itself
	delete(called, "wpa_supplicant") // in the guest, where test/devices runs its access point
	for name, file := range called {
		if !slices.Contains(known, name) {
			t.Errorf("%s calls %s, which is not in hostTools", file, name)
		}
	}
	for _, want := range []string{"kcat", "zstd", "mcopy", "java"} {
		if called[want] == "" {
			t.Errorf("the search found no call of %s among %d; is its pattern still right?", want, len(called))
		}
	}
}
