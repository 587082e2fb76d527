package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
)

// Partition is one partition of a raw disk, to read and to write.
type Partition struct {
	io.ReaderAt
	io.WriterAt
	Info disk.Partition
}

// OpenPartition opens the partition of a role on a raw disk that is not in use.
func OpenPartition(t testing.TB, file string, role layout.Role) Partition {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	table, err := disk.ReadGPT(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range table.Partitions {
		if p.Name == "wayside-"+string(role) {
			return Partition{io.NewSectionReader(f, p.Start, p.Size), io.NewOffsetWriter(f, p.Start), p}
		}
	}
	t.Fatalf("%s has no partition for %s, only %+v", file, role, table.Partitions)
	return Partition{}
}

// Extract copies a partition of a raw disk into a file of the test, holes kept,
// for tools that want one.
func Extract(t testing.TB, file string, role layout.Role) string {
	t.Helper()
	p := OpenPartition(t, file, role)
	name := filepath.Join(t.TempDir(), string(role))
	Tool(t, "dd", "if="+file, "of="+name, "bs=1M", "conv=sparse", "iflag=skip_bytes,count_bytes", "status=none",
		fmt.Sprintf("skip=%d", p.Info.Start), fmt.Sprintf("count=%d", p.Info.Size))
	if err := os.Truncate(name, p.Info.Size); err != nil {
		t.Fatal(err)
	}
	return name
}

// ReadBootPartition reads a file of the boot partition.
func ReadBootPartition(t testing.TB, file, name string) []byte {
	t.Helper()
	esp := OpenPartition(t, file, layout.ESP)
	fat, err := disk.OpenFAT(esp, esp.Info.Size)
	if err != nil {
		t.Fatal(err)
	}
	data, err := fat.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// PutOnBootPartition writes a file to the boot partition of a disk that is
// not in use, as a laptop would.
func PutOnBootPartition(t testing.TB, file, name string, data []byte) {
	t.Helper()
	esp := OpenPartition(t, file, layout.ESP)
	if err := disk.PutFile(esp, esp.Info.Size, name, data, time.Unix(1_800_000_000, 0)); err != nil {
		t.Fatal(err)
	}
}

// Find returns the offset of the first occurrence of text in a partition.
func Find(t testing.TB, p Partition, text []byte) int64 {
	t.Helper()
	data, err := io.ReadAll(io.NewSectionReader(p, 0, p.Info.Size))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, text)
	if at < 0 {
		t.Fatalf("partition %s does not hold %.40q", p.Info.Name, text)
	}
	return int64(at)
}

// Flip alters one bit of a partition; doing it again restores it.
func Flip(t testing.TB, p Partition, at int64) {
	t.Helper()
	b := make([]byte, 1)
	if _, err := p.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := p.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// Inspect returns what `wayside inspect` says of an image's one kernel image:
// its path on the boot partition and the words of its command line.
func Inspect(t testing.TB, image string) (uki string, words map[string]string) {
	t.Helper()
	out, err := Command(t, "inspect", "--json", image).Output()
	if err != nil {
		t.Fatalf("wayside inspect: %v", err)
	}
	var report struct {
		Kernels []struct {
			Path    string `json:"path"`
			Cmdline string `json:"cmdline"`
		} `json:"kernel_images"`
	}
	if err := json.Unmarshal(out, &report); err != nil || len(report.Kernels) != 1 {
		t.Fatalf("wayside inspect --json: got %d kernels, %v, want one", len(report.Kernels), err)
	}
	words = map[string]string{}
	for _, w := range strings.Fields(report.Kernels[0].Cmdline) {
		key, value, _ := strings.Cut(w, "=")
		words[key] = value
	}
	return report.Kernels[0].Path, words
}

// NextData is the first byte from off that is not in a hole of the file.
func NextData(f *os.File, off, size int64) int64 {
	at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	if err != nil {
		return size
	}
	return at
}
