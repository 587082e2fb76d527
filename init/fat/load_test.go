package fat_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/waysideos/wayside/init/disktest"
)

var loaded struct {
	sync.Once
	disk *disktest.Disk
	err  error
}

// load has foreign tools make a boot partition with one kernel image.
func load(t testing.TB) *disktest.Disk {
	t.Helper()
	loaded.Do(func() { loaded.disk, loaded.err = make33(t.TempDir()) })
	if loaded.err != nil {
		t.Fatalf("make a FAT32: %v; is `go run ./cmd/wayside host setup --for test` done?", loaded.err)
	}
	return loaded.disk.Clone()
}

func make33(dir string) (*disktest.Disk, error) {
	file, uki := filepath.Join(dir, "fat"), filepath.Join(dir, "uki")
	if err := os.WriteFile(uki, []byte(strings.Repeat("a", 3000)), 0o600); err != nil {
		return nil, err
	}
	return disktest.Foreign(file,
		[]string{"mkfs.vfat", "-F", "32", "-s", "1", "-C", file, "34000"},
		[]string{"mmd", "-i", file, "::EFI", "::EFI/Linux"},
		[]string{"mcopy", "-i", file, uki, "::EFI/Linux/wayside-1.efi"})
}
