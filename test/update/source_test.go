package update

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/test/harness"
)

// edit replaces a text of a file of the source tree, which must be there once.
type edit struct{ file, from, to string }

// buildChanged makes a release of this source with some changes, by its own
// tool: what another release of Wayside would be.
func buildChanged(t *testing.T, version string, counter uint64, edits ...edit) *built {
	t.Helper()
	source := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "cmd", "services", "init", "image", "overlays", "boards", "qemu"} {
		harness.Tool(t, "cp", "-r", filepath.Join(harness.Source(t), name), source)
	}
	for _, e := range edits {
		name := filepath.Join(source, e.file)
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), e.from); n != 1 {
			t.Fatalf("%s holds %q %d times: it is not what the change was written for", e.file, e.from, n)
		}
		if err := os.WriteFile(name, []byte(strings.Replace(string(text), e.from, e.to, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tool := filepath.Join(t.TempDir(), "wayside")
	compile := exec.Command("go", "build", "-buildvcs=false", "-o", tool, "./cmd/wayside")
	compile.Dir = source
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("build the tool of %s: %v\n%s", version, err, out)
	}
	cmd := exec.Command(tool)
	cmd.Dir = source
	return buildWith(t, cmd, t.TempDir(), harness.Board, version, counter)
}
