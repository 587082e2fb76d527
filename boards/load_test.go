package boards

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestAllBoardsAreValid(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 {
		t.Fatalf("got %d boards, want at least x86-64-uefi and qemu-x86_64", len(all))
	}
	for _, b := range all {
		notes, err := os.ReadFile(filepath.Join(b.Slug, "README.md"))
		if err != nil || !strings.HasPrefix(string(notes), "# "+b.Slug+"\n") {
			t.Errorf("board %s: want notes in README.md under its slug as title (%v)", b.Slug, err)
		}
		page, err := os.ReadFile(filepath.Join("..", "docs", "boards", b.Slug+".md"))
		if err != nil || !strings.HasPrefix(string(page), "# "+b.Slug+"\n") {
			t.Errorf("board %s: want a page in docs/boards under its slug as title (%v)", b.Slug, err)
		}
		for _, section := range []string{"What is supported", "How it boots", "Recovery", "Not verified on hardware"} {
			if !strings.Contains(string(page), "\n## "+section+"\n") {
				t.Errorf("docs/boards/%s.md: has no section %q", b.Slug, section)
			}
		}
	}
}

// x86-64-wifi is x86-64-uefi with more in it.
func TestWifiBoardHasAllOfTheOther(t *testing.T) {
	plain, err := Get("x86-64-uefi")
	if err != nil {
		t.Fatal(err)
	}
	radio, err := Get("x86-64-wifi")
	if err != nil {
		t.Fatal(err)
	}
	for name, lists := range map[string][2][]string{
		"modules.initramfs": {plain.Modules.Initramfs, radio.Modules.Initramfs},
		"modules.root":      {plain.Modules.Root, radio.Modules.Root},
		"modules.load":      {plain.Modules.Load, radio.Modules.Load},
		"watchdogs":         {plain.Watchdogs, radio.Watchdogs},
		"firmware.packages": {plain.Firmware.Packages, radio.Firmware.Packages},
		"cmdline":           {plain.Cmdline, radio.Cmdline},
	} {
		for _, word := range lists[0] {
			if !slices.Contains(lists[1], word) {
				t.Errorf("%s of x86-64-wifi: lacks %q of x86-64-uefi", name, word)
			}
		}
	}
}

func TestGetNamesTheBoards(t *testing.T) {
	for _, slug := range []string{"qemu-x86_64", "qemu_x86_64"} {
		if b, err := Get(slug); err != nil || b.Slug != "qemu-x86_64" {
			t.Errorf("Get(%q): got %q, %v, want qemu-x86_64", slug, b.Slug, err)
		}
	}
	_, err := Get("nosuch")
	if err == nil || !strings.Contains(err.Error(), "qemu-x86_64") {
		t.Errorf("got %v, want an error that names the boards", err)
	}
}

const good = `
slug: b
description: d
arch: amd64
boot: systemd-boot
packages: {kernel: k, loader: l}
cmdline: [console=ttyS0]
modules: {initramfs: [], root: []}
`

func TestBadBoards(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"good", good, ""},
		{"folder", strings.Replace(good, "slug: b", "slug: other", 1), "is not its folder's name"},
		{"arch", strings.Replace(good, "amd64", "mips", 1), "arch"},
		{"boot", strings.Replace(good, "systemd-boot", "lilo", 1), "no boot back end"},
		{"unknown field", good + "colour: red\n", "unknown field"},
		{"kernel", strings.Replace(good, "kernel: k, ", "", 1), "packages.kernel is missing"},
		{"reserved word", strings.Replace(good, "console=ttyS0", "wayside.version=1", 1), "written by the build"},
		{"two words", strings.Replace(good, "console=ttyS0", `"a b"`, 1), "one argument an entry"},
		{"firmware of no package", good + "firmware: {files: [a.bin]}\n", "in firmware.packages"},
		{"firmware pattern", good + "firmware: {packages: [p], files: [\"[\"]}\n", "in firmware.packages"},
		{"files left out of nothing", good + "firmware: {without: [a.bin]}\n", "in firmware.packages"},
		{"program of no package", good + "programs: {files: [usr/sbin/p]}\n", "programs.files"},
		{"program with a slash", good + "programs: {packages: [p], files: [/usr/sbin/p]}\n", "programs.files"},
		{"watchdog by path", good + "watchdogs: [kernel/drivers/watchdog]\n", "name of a module"},
		{"boot files of nowhere", good + "boot_files: [{package: p, files: [f]}]\n", "package and from both"},
		{"firmware that nobody plays", good + "qemu: {system: aarch64, machine: m, plays: amiga, memory_mib: 1, smp: 1}\n", "qemu.plays"},
		{"half a qemu", good + "qemu: {system: x86_64}\n", "qemu.machine is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(fstest.MapFS{"b/board.yaml": {Data: []byte(c.yaml)}})
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}
