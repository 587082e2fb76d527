//go:build linux

package broker_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/vfs"
)

// TestFullTmpfs is TestFullDiskBlocks on a real file system, which is then
// filled to the last byte by something else: whatever fails meanwhile, nothing
// is read-only when there is space again.
func TestFullTmpfs(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("mounting a small file system needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b := start(t, vfs.OS(dir))
	adm := kadm.NewClient(client(t, b, kgo.RequestRetries(1), kgo.MetadataMinAge(50*time.Millisecond)))
	fullDisk(t, b, "other", func() {
		other := filepath.Join(dir, "other")
		f, err := os.Create(other)
		must(t, err)
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		f.Close()
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("fill the disk: %v", err)
		}
		var offsets kadm.Offsets
		offsets.AddOffset("t", 0, 1, -1)
		for range 3000 { // until the file's last page is full
			if err := adm.CommitAllOffsets(within(t), "g", offsets); err != nil {
				t.Logf("commit on a disk full to the last byte: %v", err)
				break
			}
		}
		_, err = adm.CreateTopic(within(t), 1, 1, nil, "too-late")
		t.Logf("create a topic on a disk full to the last byte: %v", err)
		if err == nil {
			t.Error("a topic was made on a disk that is full to the last byte")
		}
		entries, err := os.ReadDir(filepath.Join(dir, "topics"))
		must(t, err)
		for _, e := range entries {
			if e.Name() == "too-late-0" {
				t.Error("a topic that could not be made left a folder")
			}
		}
		must(t, os.Remove(other))
		must(t, adm.CommitAllOffsets(within(t), "g", offsets))
	})
}
