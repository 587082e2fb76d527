package disk

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestNoticeIsItsSource assembles the source again.
func TestNoticeIsItsSource(t *testing.T) {
	dir := t.TempDir()
	object, binary := filepath.Join(dir, "o"), filepath.Join(dir, "bin")
	for _, args := range [][]string{
		{"as", "-o", object, "testdata/bios.asm"},
		{"objcopy", "-O", "binary", "-j", ".text", object, binary},
	} {
		if _, err := exec.LookPath(args[0]); err != nil && os.Getenv("CI") == "" {
			t.Skip(err)
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	got, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != BIOSNotice {
		t.Errorf("the source assembles to other bytes than bios.go holds:\n%q", got)
	}
}
