//go:build linux

package pid1

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/waysideos/wayside/services/manifest"
)

func TestMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meminfo")
	text := "MemTotal:         499020 kB\nMemFree:  100 kB\nMemAvailable:     300000 kB\nHugePages_Total:       0\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	want := manifest.Memory{Total: 499020 << 10, Available: 300000 << 10}
	if got := memory(file); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := memory(file + ".absent"); got != (manifest.Memory{}) {
		t.Errorf("no file: got %+v, want zero", got)
	}
}
