package initramfs_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/initramfs"
	"github.com/waysideos/wayside/image/rootfs"
)

func tree(init []byte) []rootfs.Entry {
	return []rootfs.Entry{
		rootfs.Bytes("/init", 0o755, init),
		rootfs.Bytes("/etc/initrd-release", 0o644, []byte("ID=wayside\n")),
		rootfs.Bytes("/etc/empty", 0o644, nil),
		rootfs.CharDevice("/dev/console", 0o600, 5, 1),
		rootfs.Symlink("/lib", "usr/lib"),
		rootfs.Dir("/proc", 0o555),
	}
}

func write(t *testing.T, entries []rootfs.Entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := initramfs.Write(&buf, entries); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestReadsBackAsWritten(t *testing.T) {
	init := imagetest.Noise(t, 300_000)
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(write(t, tree(init)))))
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		Name              string
		Mode              uint64
		Size, Major, Time uint64
	}
	var got []line
	inodes := map[uint64]bool{}
	for _, r := range records {
		got = append(got, line{r.Name, r.Mode, r.FileSize, r.Rmajor, r.MTime})
		if inodes[r.Ino] {
			t.Errorf("%s shares its inode: the kernel would link it to another file", r.Name)
		}
		inodes[r.Ino] = true
	}
	want := []line{ // a folder comes before what it holds, or the kernel drops that
		{"dev", cpio.S_IFDIR | 0o755, 0, 0, 0},
		{"dev/console", cpio.S_IFCHR | 0o600, 0, 5, 0},
		{"etc", cpio.S_IFDIR | 0o755, 0, 0, 0},
		{"etc/empty", cpio.S_IFREG | 0o644, 0, 0, 0},
		{"etc/initrd-release", cpio.S_IFREG | 0o644, 11, 0, 0},
		{"init", cpio.S_IFREG | 0o755, 300_000, 0, 0},
		{"lib", cpio.S_IFLNK | 0o777, 7, 0, 0},
		{"proc", cpio.S_IFDIR | 0o555, 0, 0, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
	content, err := io.ReadAll(io.NewSectionReader(records[5], 0, 1<<20))
	if err != nil || !bytes.Equal(content, init) {
		t.Errorf("content of init: %d bytes, %v; want 300000 as written", len(content), err)
	}
}

// An update finds init and modules in the root by their content.
func TestContentIsNotCompressed(t *testing.T) {
	init := []byte(strings.Repeat("a rather long and repetitive program ", 10_000))
	if !bytes.Contains(write(t, tree(init)), init) {
		t.Error("the archive does not hold the program as it is")
	}
}

func TestEqualTreesGiveEqualBytes(t *testing.T) {
	init := []byte(strings.Repeat("a rather long and repetitive program ", 100_000))
	first := write(t, tree(init))
	for range 3 {
		if !bytes.Equal(first, write(t, tree(init))) {
			t.Fatal("two archives of one tree differ")
		}
	}
}

func TestForeignCheck(t *testing.T) {
	init := []byte("init")
	plain := t.TempDir() + "/initramfs.cpio"
	writeFile(t, plain, write(t, tree(init)))
	out := imagetest.Run(t, "cpio", "--list", "--quiet", "--file="+plain)
	if got, want := strings.Fields(out), []string{"dev", "dev/console", "etc", "etc/empty", "etc/initrd-release", "init", "lib", "proc"}; !cmp.Equal(got, want) {
		t.Errorf("cpio lists %q, want %q", got, want)
	}
}

func TestAFileThatIsNotAsAnnouncedIsAnError(t *testing.T) {
	for _, size := range []int64{1, 100} {
		e := rootfs.Bytes("/init", 0o755, []byte("init"))
		e.Size = size
		if err := initramfs.Write(io.Discard, []rootfs.Entry{e}); err == nil {
			t.Errorf("4 bytes of content passed for %d", size)
		}
	}
}
