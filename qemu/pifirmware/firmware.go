// Package pifirmware does what a Raspberry Pi's own firmware does before the
// first program of ours runs: it finds the boot partition, reads autoboot.txt
// and config.txt, and picks a program and a device tree. QEMU plays the machine
// but none of this.
//
// The rules are those of Raspberry Pi's documentation ("Raspberry Pi boot
// folder contents", "config.txt", "autoboot.txt", "Boot modes"). Whatever it
// does not have a rule for is an error, never a guess.
package pifirmware

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/waysideos/wayside/image/disk"
)

// Model is what the firmware of a machine knows of it.
type Model struct {
	Name    string
	Filters []string // model filters of config.txt that apply to it
	// ROM says that a boot ROM reads bootcode.bin from the disk. Later machines
	// have that part in flash memory, which also reads a GPT; the ROM does not.
	ROM bool
	// Start and Fixup are the GPU's program and its companion.
	Start, Fixup string
	// Bits64 says that programs start in 64-bit mode unless config.txt says no.
	Bits64 bool
	// Tree is the device tree by the kernel's name, Downstream by the name in
	// Raspberry Pi's own kernel.
	Tree, Downstream string
}

// Models that QEMU has a machine for.
var (
	Pi3B = Model{
		Name: "Raspberry Pi 3B", Filters: []string{"pi3"}, ROM: true, Start: "start.elf", Fixup: "fixup.dat",
		Tree: "bcm2837-rpi-3-b.dtb", Downstream: "bcm2710-rpi-3-b.dtb",
	}
	Pi4B = Model{
		Name: "Raspberry Pi 4B", Filters: []string{"pi4"}, Start: "start4.elf", Fixup: "fixup4.dat", Bits64: true,
		Tree: "bcm2711-rpi-4-b.dtb", Downstream: "bcm2711-rpi-4-b.dtb",
	}
)

// Boot is what the firmware starts.
type Boot struct {
	Partition int    // number that the partition table has for it
	Kernel    string // path on the partition
	Program   []byte
	TreeName  string // "" if there is none
	Tree      []byte
	UART      bool // the serial port on the header is on
	// Notes are what the firmware puts up with in silence.
	Notes []string
}

// ErrNoBoot says that the machine would stand still, blinking.
var ErrNoBoot = errors.New("the firmware starts nothing")

func noBoot(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNoBoot, fmt.Sprintf(format, args...))
}

// Start plays the firmware of a model on a disk of size bytes. tryboot is the
// flag that a system may set for one boot.
func Start(r io.ReaderAt, size int64, m Model, tryboot bool) (*Boot, error) {
	parts, err := partitions(r, size, m)
	if err != nil {
		return nil, err
	}
	first, err := openFAT(r, parts)
	if err != nil {
		return nil, err
	}
	part, err := autoboot(first, parts, tryboot)
	if err != nil {
		return nil, err
	}
	f := &folder{FAT: first.FAT, m: m, b: &Boot{Partition: part.number}}
	if part.number != first.number {
		if f.FAT, err = disk.OpenFAT(io.NewSectionReader(r, part.start, part.size), part.size); err != nil {
			return nil, noBoot("partition %d: %v", part.number, err)
		}
	}
	return f.b, f.boot(tryboot)
}

// folder is the boot partition in use.
type folder struct {
	*disk.FAT
	m Model
	b *Boot
	c config
}

func (f *folder) boot(tryboot bool) error {
	if f.m.ROM {
		if data, err := f.read("bootcode.bin"); err != nil || len(data) == 0 {
			return noBoot("bootcode.bin: %v", missing(err))
		}
	}
	if err := f.readConfig(tryboot); err != nil {
		return err
	}
	start := f.c.text("start_file", f.m.Start)
	program, err := f.read(start)
	if err != nil {
		return noBoot("%s: %v", start, missing(err))
	}
	if !bytes.HasPrefix(program, []byte("\x7fELF")) {
		return noBoot("%s is no program of the GPU", start)
	}
	if _, err := f.read(f.c.text("fixup_file", f.m.Fixup)); err != nil {
		f.note("without %s less memory is found", f.m.Fixup)
	}
	f.b.UART = f.c.flag("enable_uart", false)
	return f.pick()
}

// pick chooses program and device tree. An os_prefix counts only if both are
// below it.
func (f *folder) pick() error {
	if !f.c.flag("arm_64bit", f.m.Bits64) {
		return noBoot("arm_64bit is off: the program would start in 32-bit mode")
	}
	upstream := f.c.flag("upstream_kernel", false)
	kernel := f.c.text("kernel", "kernel8.img")
	trees := []string{f.m.Downstream, f.m.Tree}
	prefix := ""
	if upstream {
		trees, prefix = []string{f.m.Tree, f.m.Downstream}, "upstream/"
	}
	prefix = f.c.text("os_prefix", prefix)
	if named := f.c.text("device_tree", ""); named != "" {
		trees = []string{named}
	}
	for _, p := range []string{prefix, ""} {
		program, err := f.read(p + kernel)
		if err != nil {
			continue
		}
		name, tree := f.tree(p, trees)
		if tree == nil && p != "" {
			continue
		}
		f.b.Kernel, f.b.Program, f.b.TreeName, f.b.Tree = p+kernel, program, name, tree
		if len(program) == 0 {
			return noBoot("%s is empty", p+kernel)
		}
		return nil
	}
	return noBoot("there is no %s", kernel)
}

// tree is the first device tree that is there. One that is none counts as
// missing, and the program gets none.
func (f *folder) tree(prefix string, names []string) (string, []byte) {
	for _, name := range names {
		tree, err := f.read(prefix + name)
		if err != nil {
			continue
		}
		if !bytes.HasPrefix(tree, []byte{0xd0, 0x0d, 0xfe, 0xed}) {
			f.note("%s is no device tree", prefix+name)
			return "", nil
		}
		return prefix + name, tree
	}
	f.note("no device tree: none of %s is there", strings.Join(names, ", "))
	return "", nil
}

func (f *folder) read(name string) ([]byte, error) { return f.ReadFile(name) }

func (f *folder) note(format string, args ...any) {
	f.b.Notes = append(f.b.Notes, fmt.Sprintf(format, args...))
}

// missing words the ordinary case.
func missing(err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return errors.New("missing or empty")
	}
	return err
}
