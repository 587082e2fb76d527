package install

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/flash"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/disktest"
	"github.com/waysideos/wayside/init/fat"
	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/services/site"
)

const (
	mib       = layout.MiB
	rootBytes = 40 * layout.VerityBlock
	slotBytes = 43 * layout.VerityBlock
	targetMiB = 4096
)

// stickDisk is a stick with a small root, and a boot partition with an install
// file and a kernel image.
func stickDisk(t *testing.T) *disktest.Disk {
	t.Helper()
	parts, err := layout.Partitions("amd64")
	if err != nil {
		t.Fatal(err)
	}
	d := disktest.New(1026 * mib)
	table := &gpt.Table{}
	at := uint64(mib / gpt.Sector)
	for _, p := range parts {
		if !p.Shipped {
			continue
		}
		typ, _ := gpt.ParseGUID(p.Type)
		guid, _ := gpt.NewGUID(rand.Reader)
		table.Partitions = append(table.Partitions, gpt.Partition{Index: p.Index, Type: typ, GUID: guid, Name: p.Name, Start: at, End: at + uint64(p.Size/gpt.Sector) - 1})
		at += uint64(p.Size / gpt.Sector)
	}
	if err := gpt.Write(d, uint64(d.Size/gpt.Sector), table); err != nil {
		t.Fatal(err)
	}
	esp := section{d, mib, 256 * mib}
	formatFAT(t, esp)
	v, err := fat.Open(esp, esp.size)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"wayside/install.yaml": "version: 1\n", "EFI/Linux/wayside-1.efi": strings.Repeat("kernel", 5000)} {
		if err := v.Create(filepath.Dir(name), filepath.Base(name), strings.NewReader(text), int64(len(text)), time.Unix(1_800_000_000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	root := make([]byte, slotBytes)
	_, _ = mrand.NewChaCha8([32]byte{1}).Read(root)
	if _, err := d.WriteAt(root, 257*mib); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	return d
}

// formatFAT writes a FAT32 of 256 MiB with the folders wayside and EFI/Linux,
// in clusters of 4 KiB.
func formatFAT(t *testing.T, s section) {
	t.Helper()
	put := func(b []byte, off int64) {
		t.Helper()
		if _, err := s.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	boot := make([]byte, 512)
	copy(boot[11:], []byte{0, 2, 8, 32, 0, 2})
	copy(boot[32:], []byte{0, 0, 8, 0, 0, 2, 0, 0}) // 524288 sectors, FATs of 512
	boot[44] = 2
	copy(boot[82:], "FAT32   ")
	boot[510], boot[511] = 0x55, 0xaa
	put(boot, 0)
	table := []byte{0xf8, 0xff, 0xff, 0x0f}
	for range 4 { // entry 1, root, and three folders
		table = append(table, 0xff, 0xff, 0xff, 0x0f)
	}
	table = append(table, 0xff, 0xff, 0xff, 0x0f)
	put(table, 32*512)
	put(table, (32+512)*512)
	const data, cluster = (32 + 1024) * 512, 4096
	folder := func(name string, first byte) []byte {
		e := make([]byte, 32)
		copy(e, name)
		e[11], e[26] = 0x10, first
		return e
	}
	put(append(folder("WAYSIDE    ", 3), folder("EFI        ", 4)...), data)
	put(folder("LINUX      ", 5), data+2*cluster)
}

func sourceOf(d *disktest.Disk) Source {
	return Source{
		Disk: d, Size: d.Size, Root: io.NewSectionReader(d, 257*mib, rootBytes),
		RootBytes: rootBytes, SlotBytes: slotBytes, Arch: "amd64", Random: rand.Reader,
	}
}

// dirty is a disk that held a box before.
func dirty() *disktest.Disk {
	d := disktest.New(targetMiB * mib)
	for _, at := range []int64{0, 512, mib, 257 * mib, (257 + 768) * mib, (257 + 2*768) * mib, (257 + 2*768 + 256) * mib, d.Size - 512} {
		_, _ = d.WriteAt(bytes.Repeat([]byte("EFI PART"), 64), at)
	}
	_ = d.Sync()
	return d
}

func readFiles(t *testing.T, d gpt.Disk, dir string) map[string]string {
	t.Helper()
	v, err := fat.Open(section{d, mib, 256 * mib}, 256*mib)
	if err != nil {
		t.Fatal(err)
	}
	files, err := v.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range files {
		r, err := v.Read(f)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[f.Name] = string(data)
	}
	return got
}

// whole checks that a disk is the stick's system, and one of its own.
func whole(t *testing.T, stick, d *disktest.Disk) {
	t.Helper()
	table, err := gpt.Read(d, uint64(d.Size/gpt.Sector))
	if err != nil {
		t.Fatal(err)
	}
	old, err := gpt.Read(stick, uint64(stick.Size/gpt.Sector))
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Partitions) != 2 || table.Degraded || table.GUID == old.GUID || table.Partitions[0].GUID == old.Partitions[0].GUID {
		t.Errorf("partition table %+v of the stick's %+v: want its partitions with GUIDs of their own", table, old)
	}
	if got := readFiles(t, d, "wayside"); len(got) != 0 {
		t.Errorf("the disk would install again: %q", got)
	}
	if diff := cmp.Diff(readFiles(t, stick, "EFI/Linux"), readFiles(t, d, "EFI/Linux")); diff != "" {
		t.Errorf("kernel images (-stick +disk):\n%s", diff)
	}
	a, b := make([]byte, slotBytes), make([]byte, slotBytes)
	_, _ = stick.ReadAt(a, 257*mib)
	_, _ = d.ReadAt(b, 257*mib)
	if !bytes.Equal(a, b) {
		t.Error("the root is not the stick's")
	}
}

func TestRun(t *testing.T) {
	stick, target := stickDisk(t), dirty()
	text, err := ReadFile(stick, stick.Size, "amd64")
	if err != nil || string(text) != "version: 1\n" {
		t.Fatalf("the install file reads %q, %v", text, err)
	}
	if IsBox(target, target.Size, "amd64") {
		t.Error("a disk of rubbish passes for a box")
	}
	state, err := Run(t.Context(), sourceOf(stick), target, target.Size, nil)
	if err != nil || state != flash.Whole {
		t.Fatalf("got %q, %v", state, err)
	}
	whole(t, stick, target)
	if !IsBox(target, target.Size, "amd64") {
		t.Error("what was installed passes for no box")
	}
	for _, at := range []int64{257 + 768, 257 + 2*768, 257 + 2*768 + 256} {
		b := make([]byte, 8)
		if _, err := target.ReadAt(b, at*mib); err != nil || !bytes.Equal(b, make([]byte, 8)) {
			t.Errorf("at %d MiB the disk still holds %q, %v", at, b, err)
		}
	}
}

// The power goes at any write or flush: the disk has no partition table, or is
// whole.
func TestPowerCuts(t *testing.T) {
	stick := stickDisk(t)
	count := &disktest.Meter{}
	target := dirty()
	target.Meter = count
	if _, err := Run(t.Context(), sourceOf(stick), target, target.Size, nil); err != nil {
		t.Fatal(err)
	}
	finished := 0
	for at := 3; at <= count.Events; at++ { // the head is zero from the first sync on
		target := dirty()
		target.Meter = &disktest.Meter{CutAt: at}
		if _, err := Run(t.Context(), sourceOf(stick), target, target.Size, nil); !errors.Is(err, disktest.ErrCut) {
			t.Fatalf("cut at event %d: got %v", at, err)
		}
		after := target.After(mrand.New(mrand.NewPCG(uint64(at), 1)))
		_, err := gpt.Read(after, uint64(after.Size/gpt.Sector))
		if errors.Is(err, gpt.ErrNone) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		finished++
		if got := readFiles(t, after, "wayside"); len(got) != 0 {
			t.Fatalf("cut at event %d: the disk has a table and would install again", at)
		}
	}
	if finished == 0 || finished > 20 {
		t.Errorf("%d of %d cuts left a disk with a table: want the few at the end", finished, count.Events)
	}
}

func TestBadRoot(t *testing.T) {
	stick, target := stickDisk(t), dirty()
	s := sourceOf(stick)
	s.Root = failing{}
	if state, err := Run(t.Context(), s, target, target.Size, nil); !errors.Is(err, errBad) || state != flash.Unfinished {
		t.Errorf("a root with a bad block: got %q, %v", state, err)
	}
	if state, err := Run(t.Context(), sourceOf(stick), target, 1<<30, nil); err == nil || state != flash.Untouched {
		t.Errorf("a small disk: got %q, %v", state, err)
	}
}

var errBad = errors.New("bad block")

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errBad }

// sysfs makes a tree with disks.
func sysfs(t *testing.T, disks map[string]map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, files := range disks {
		for file, text := range files {
			name := filepath.Join(root, "block", name, file)
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func disk(sectors, model string, more ...string) map[string]string {
	m := map[string]string{"size": sectors, "device/model": model, "ro": "0", "queue/logical_block_size": "512"}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

func TestChoose(t *testing.T) {
	all, err := List(sysfs(t, map[string]map[string]string{
		"sda":          disk("15728640", "Stick"),
		"nvme0n1":      disk("1000215216", "Samsung  SSD 980"),
		"nvme0c0n1":    disk("1000215216", "Samsung  SSD 980", "hidden", "1"),
		"mmcblk0":      disk("61071360", "", "device/name", "DG4032"),
		"mmcblk0boot0": disk("8192000", ""),
		"sdb":          disk("500000", "too small"),
		"sdc":          disk("15728640", "large sectors", "queue/logical_block_size", "4096"),
		"sdd":          disk("15728640", "read-only", "ro", "1"),
		"loop0":        disk("15728640", ""),
	}), "sda")
	if err != nil {
		t.Fatal(err)
	}
	names := func(all []Disk) string {
		var s []string
		for _, d := range all {
			s = append(s, d.Name)
		}
		return strings.Join(s, " ")
	}
	if got := names(all); got != "mmcblk0 nvme0n1" {
		t.Fatalf("disks %q, want mmcblk0 nvme0n1", got)
	}
	for _, c := range []struct {
		in   site.Install
		want string // "" for an error, "?" for a person
	}{
		{site.Install{}, "?"},
		{site.Install{Disk: "smallest"}, "mmcblk0"},
		{site.Install{Disk: "smallest", MinGiB: 64}, "nvme0n1"},
		{site.Install{Disk: "smallest", MaxGiB: 16}, ""},
		{site.Install{Disk: "only"}, ""},
		{site.Install{Disk: "only", Model: "Samsung*"}, "nvme0n1"},
		{site.Install{Disk: "/dev/nvme0n1"}, "nvme0n1"},
		{site.Install{Disk: "/dev/sda"}, ""},
	} {
		got, err := Choose(all, &c.in)
		switch {
		case c.want == "" && err == nil, c.want == "?" && (got != nil || err != nil):
			t.Errorf("%+v: got %v, %v", c.in, got, err)
		case len(c.want) > 1 && (err != nil || got.Name != c.want):
			t.Errorf("%+v: got %v, %v; want %s", c.in, got, err, c.want)
		}
	}
	box := Disk{Box: true}
	if Granted(Disk{}, &site.Install{Wipe: "no"}) || !Granted(Disk{}, &site.Install{Wipe: "yes"}) ||
		Granted(box, &site.Install{Wipe: "yes"}) || !Granted(box, &site.Install{Wipe: "always"}) {
		t.Error("a disk is wiped that should not be, or the other way round")
	}
}

// script is a person who answers from a list.
type script struct {
	answers []string
	told    strings.Builder
}

func (s *script) Tell(text string) { s.told.WriteString(text) }
func (s *script) Line(context.Context) (string, error) {
	if len(s.answers) == 0 {
		return "", context.DeadlineExceeded
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	return a, nil
}

func TestConfirm(t *testing.T) {
	all := []Disk{{Name: "mmcblk0", Size: 32 << 30}, {Name: "nvme0n1", Size: 500 << 30, Model: "Samsung", Box: true}}
	p := &script{answers: []string{"3", "2", "no", "2", "YES"}}
	got, err := Confirm(t.Context(), p, all, nil)
	if err != nil || got.Name != "nvme0n1" {
		t.Errorf("got %v, %v; want the second disk", got, err)
	}
	for _, want := range []string{`"3" is none`, "HOLDS A WAYSIDE BOX", "nothing was written"} {
		if !strings.Contains(p.told.String(), want) {
			t.Errorf("the person is not told %q:\n%s", want, p.told.String())
		}
	}
	if _, err := Confirm(t.Context(), &script{answers: []string{""}}, all, &all[0]); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody answers: got %v", err)
	}
}
