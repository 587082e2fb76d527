package rootfs_test

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	erofs "github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/rootfs"
)

const epoch = 1_760_000_000

func tree(big []byte) []rootfs.Entry {
	owned := rootfs.Bytes("/etc/secret", 0o640, []byte("s"))
	owned.UID, owned.GID = 201, 70000 // the second needs an extended inode
	sticky := rootfs.Dir("/tmp", 0o777)
	sticky.Mode |= fs.ModeSticky
	return []rootfs.Entry{
		rootfs.Bytes("/usr/bin/waysided", 0o755, big),
		rootfs.Bytes("/etc/empty", 0o644, nil),
		rootfs.Bytes("/etc/tail", 0o600, big[:4096+17]),
		rootfs.Symlink("/bin", "usr/bin"),
		rootfs.CharDevice("/dev/console", 0o600, 5, 1),
		owned, sticky,
	}
}

func write(t *testing.T, entries []rootfs.Entry) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := rootfs.Write(f, entries, epoch)
	if err != nil {
		t.Fatal(err)
	}
	img, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(img)) != size {
		t.Errorf("Write says %d bytes, the file has %d", size, len(img))
	}
	return img
}

func TestReadsBackAsWritten(t *testing.T) {
	big := imagetest.Noise(t, 100_000)
	root, err := rootfs.Open(bytes.NewReader(write(t, tree(big))))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*erofs.Stat)
		if st.Mtime != epoch {
			t.Errorf("%s: mtime %d, want %d", p, st.Mtime, epoch)
		}
		got = append(got, strings.Join([]string{p, info.Mode().String(), itoa(st.UID), itoa(st.GID)}, " "))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The library's reader does not show the sticky bit; TestForeignCheck sees it.
	want := []string{
		". drwxr-xr-x 0 0", "bin Lrwxrwxrwx 0 0", "dev drwxr-xr-x 0 0", "dev/console Dcrw------- 0 0",
		"etc drwxr-xr-x 0 0", "etc/empty -rw-r--r-- 0 0", "etc/secret -rw-r----- 201 70000", "etc/tail -rw------- 0 0",
		"tmp drwxrwxrwx 0 0", "usr drwxr-xr-x 0 0", "usr/bin drwxr-xr-x 0 0", "usr/bin/waysided -rwxr-xr-x 0 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	for name, want := range map[string][]byte{"usr/bin/waysided": big, "etc/tail": big[:4096+17]} {
		if got, err := fs.ReadFile(root, name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("content of %s: %d bytes, %v; want %d as written", name, len(got), err, len(want))
		}
	}
}

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func TestEqualTreesGiveEqualBytes(t *testing.T) {
	entries := tree(imagetest.Noise(t, 50_000))
	first := write(t, entries)
	slices.Reverse(entries)
	if !bytes.Equal(first, write(t, entries)) {
		t.Error("the image depends on the order of the entries")
	}
}

// A delta between two releases stays small only while content lies on block
// borders.
func TestContentBeginsOnABlock(t *testing.T) {
	big := imagetest.Noise(t, 100_000)
	img := write(t, tree(big))
	for _, content := range [][]byte{big, big[:4096+17]} {
		at := bytes.Index(img, content)
		if at < 0 || at%rootfs.BlockSize != 0 {
			t.Errorf("content of %d bytes lies at %d, want a multiple of %d", len(content), at, rootfs.BlockSize)
		}
	}
}

func TestForeignCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "root.erofs")
	if err := os.WriteFile(file, write(t, tree(imagetest.Noise(t, 100_000))), 0o644); err != nil {
		t.Fatal(err)
	}
	imagetest.Run(t, "fsck.erofs", file)
	// Extracted without the device, which only root may make.
	plain, dir := filepath.Join(t.TempDir(), "plain.erofs"), filepath.Join(t.TempDir(), "tree")
	sticky := rootfs.Dir("/tmp", 0o777)
	sticky.Mode |= fs.ModeSticky
	if err := os.WriteFile(plain, write(t, []rootfs.Entry{sticky}), 0o644); err != nil {
		t.Fatal(err)
	}
	imagetest.Run(t, "fsck.erofs", "--extract="+dir, "--preserve-perms", "--no-preserve-owner", plain)
	info, err := os.Stat(filepath.Join(dir, "tmp"))
	if err != nil || info.Mode() != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Errorf("/tmp extracted: %v, %v; want mode 1777", info, err)
	}
}

func TestCompleteRefuses(t *testing.T) {
	for name, entries := range map[string][]rootfs.Entry{
		"relative path":        {rootfs.Bytes("etc/x", 0o644, nil)},
		"unclean path":         {rootfs.Bytes("/etc/../x", 0o644, nil)},
		"file with children":   {rootfs.Bytes("/etc", 0o644, nil), rootfs.Bytes("/etc/x", 0o644, nil)},
		"link without target":  {rootfs.Symlink("/x", "")},
		"size without content": {{Path: "/x", Size: 1}},
	} {
		if got, err := rootfs.Complete(entries); err == nil {
			t.Errorf("%s: accepted as %v", name, got)
		}
	}
}

func TestLaterEntryReplacesEarlier(t *testing.T) {
	got, err := rootfs.Complete([]rootfs.Entry{rootfs.Bytes("/a", 0o600, nil), rootfs.Bytes("/a", 0o644, nil)})
	if err != nil || len(got) != 2 || got[1].Mode != 0o644 {
		t.Errorf("got %v, %v; want the root and /a with mode 0644", got, err)
	}
}

func TestShortContentIsAnError(t *testing.T) {
	for _, size := range []int64{100, 10_000} { // beside its inode, and in blocks
		e := rootfs.Bytes("/x", 0o644, []byte("short"))
		e.Size = size
		if _, err := rootfs.Write(discard(t), []rootfs.Entry{e}, epoch); err == nil {
			t.Errorf("5 bytes of content passed for %d", size)
		}
	}
}

func discard(t *testing.T) *os.File {
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Wherever the last inode falls within its block, the image can be read.
func TestOpenReadsTheLastInode(t *testing.T) {
	dir := t.TempDir()
	for n := range rootfs.BlockSize / 32 {
		file, err := os.Create(filepath.Join(dir, "root"))
		if err != nil {
			t.Fatal(err)
		}
		// What lies between the first inode and the last grows by 32 bytes.
		entries := []rootfs.Entry{rootfs.Symlink("/a", strings.Repeat("x", 32*n+1)), rootfs.Dir("/z", 0o755)}
		size, err := rootfs.Write(file, entries, 1)
		if err != nil {
			t.Fatal(err)
		}
		root, err := rootfs.Open(io.NewSectionReader(file, 0, size))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fs.ReadDir(root, "z"); err != nil {
			t.Errorf("%d bytes between: %v", 32*n, err)
		}
		file.Close()
	}
}
