package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listDisks reads the kernel's list.
func listDisks() ([]blockDisk, error) { return disksBelow("/") }

// virtualDisks are block devices that no image is written to, by prefix.
var virtualDisks = []string{"ram", "zram", "dm-", "md", "sr", "fd", "nbd"}

// disksBelow is listDisks for another root than /, for the tests.
func disksBelow(root string) ([]blockDisk, error) {
	entries, err := os.ReadDir(filepath.Join(root, "sys/block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	mounts := readMounts(root)
	all := []blockDisk{}
	for _, e := range entries {
		if slices.ContainsFunc(virtualDisks, func(p string) bool { return strings.HasPrefix(e.Name(), p) }) {
			continue
		}
		hidden, _ := os.ReadFile(filepath.Join(root, "sys/block", e.Name(), "hidden"))                     // a path to an NVMe disk
		if d := readDisk(root, e.Name(), mounts); d.Size > 0 && strings.TrimSpace(string(hidden)) != "1" { // a reader without a card has none
			all = append(all, d)
		}
	}
	return all, nil
}

func readDisk(root, name string, mounts []mounted) blockDisk {
	dir := filepath.Join(root, "sys/block", name)
	word := func(file string) string {
		b, _ := os.ReadFile(filepath.Join(dir, file))
		return strings.TrimSpace(string(b))
	}
	number := func(file string) int64 { n, _ := strconv.ParseInt(word(file), 10, 64); return n }
	d := blockDisk{
		Device: "/dev/" + name, Size: number("size") * 512, Sector: int(number("queue/logical_block_size")),
		ReadOnly: word("ro") == "1", Model: word("device/model"),
	}
	if d.Model == "" {
		d.Model = word("device/name") // of a card
	}
	link, _ := filepath.EvalSymlinks(dir)
	d.Removable = word("removable") == "1" || strings.Contains(link, "/usb") || word("device/type") == "SD"
	d.use(dir, name, mounts)
	return d
}

// use finds what a disk, its partitions, and volumes made of them are used for.
func (d *blockDisk) use(dir, name string, mounts []mounted) {
	number, _ := os.ReadFile(filepath.Join(dir, "dev"))
	for _, m := range mounts {
		if m.source != "/dev/"+name && m.number != strings.TrimSpace(string(number)) {
			continue
		}
		d.Uses = append(d.Uses, m.at+" on "+name)
		d.System = d.System || m.at == "/" || m.at == "swap" || m.at == "/usr" || m.at == "/home" || strings.HasPrefix(m.at, "/boot")
		if m.at != "swap" {
			d.mounts = append(d.mounts, m.at)
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(dir, e.Name(), "partition")); err == nil {
			d.use(filepath.Join(dir, e.Name()), e.Name(), mounts)
		}
	}
	holders, _ := os.ReadDir(filepath.Join(dir, "holders"))
	for _, h := range holders {
		d.Uses = append(d.Uses, h.Name()+" on "+name)
		if target, err := filepath.EvalSymlinks(filepath.Join(dir, "holders", h.Name())); err == nil {
			d.use(target, h.Name(), mounts)
		}
	}
}

// mounted is a mount or a swap area.
type mounted struct{ source, number, at string }

// readMounts reads /proc/self/mountinfo (proc(5)) and /proc/swaps.
func readMounts(root string) []mounted {
	var all []mounted
	for line := range lines(filepath.Join(root, "proc/self/mountinfo")) {
		fields := strings.Fields(line)
		dash := slices.Index(fields, "-")
		if len(fields) > 4 && dash > 0 && dash+2 < len(fields) {
			all = append(all, mounted{source: fields[dash+2], number: fields[2], at: strings.ReplaceAll(fields[4], `\040`, " ")})
		}
	}
	for line := range lines(filepath.Join(root, "proc/swaps")) {
		if source, _, _ := strings.Cut(line, " "); strings.HasPrefix(source, "/dev/") {
			all = append(all, mounted{source: source, at: "swap"})
		}
	}
	return all
}

func lines(file string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		f, err := os.Open(file)
		if err != nil {
			return
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if !yield(s.Text()) {
				return
			}
		}
	}
}

// findDisk finds the disk that a path names, "/dev/disk/by-id/…" too.
func findDisk(device string) (blockDisk, error) {
	st, err := os.Stat(device)
	if err != nil {
		return blockDisk{}, fmt.Errorf("open the disk: %w", err)
	}
	if st.Mode().IsRegular() {
		return blockDisk{}, fmt.Errorf("%s: %w but a file; for a virtual machine's disk see wayside run --disk", device, errNoDisk)
	}
	if st.Mode()&os.ModeDevice == 0 || st.Mode()&os.ModeCharDevice != 0 {
		return blockDisk{}, fmt.Errorf("%s: %w", device, errNoDisk)
	}
	path, err := filepath.EvalSymlinks(device)
	if err != nil {
		return blockDisk{}, err
	}
	name := filepath.Base(path)
	if whole, err := filepath.EvalSymlinks(filepath.Join("/sys/class/block", name)); err == nil {
		if _, err := os.Stat(filepath.Join(whole, "partition")); err == nil {
			return blockDisk{}, fmt.Errorf("%s is a partition of /dev/%s: an image is for the whole disk", device, filepath.Base(filepath.Dir(whole)))
		}
	}
	all, err := listDisks()
	if err != nil {
		return blockDisk{}, err
	}
	for _, d := range all {
		if d.Device == path {
			return d, nil
		}
	}
	return blockDisk{}, fmt.Errorf("%s: %w that an image is written to, or has no medium", device, errNoDisk)
}

// openDisk is a disk that nobody else uses meanwhile.
type openDisk struct {
	*os.File
	direct *os.File // reads pass the page cache by; nil where that is not possible
	buf    []byte   // aligned, for direct
}

// open takes a disk for itself. What is mounted of it is unmounted: judge has
// let it pass.
func (d blockDisk) open() (*openDisk, error) {
	for _, at := range slices.Backward(d.mounts) {
		if err := unix.Unmount(at, 0); err != nil {
			return nil, fmt.Errorf("unmount %s: %v; do it yourself, and try again", at, err)
		}
	}
	f, err := os.OpenFile(d.Device, os.O_RDWR|unix.O_EXCL, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("%s is in use: unmount what is on it, and close what reads it", d.Device)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("you may not write to %s: run with sudo, or join the group that may (sudo usermod -aG disk $USER) and log in anew", d.Device)
	case err != nil:
		return nil, err
	}
	o := &openDisk{File: f}
	if o.direct, err = os.OpenFile(d.Device, os.O_RDONLY|unix.O_DIRECT, 0); err == nil {
		o.buf = aligned(1 << 20)
	}
	return o, nil
}

// aligned is memory that begins with a page: what direct reads want.
func aligned(n int) []byte {
	const page = 4096
	b := make([]byte, n+page)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & (page - 1))
	return b[skip:][:n]
}

// ReadAt reads from the medium.
func (o *openDisk) ReadAt(p []byte, off int64) (n int, err error) {
	if o.direct == nil {
		return o.File.ReadAt(p, off)
	}
	for n < len(p) && err == nil {
		var m int
		m, err = o.direct.ReadAt(o.buf[:min(len(o.buf), len(p)-n)], off+int64(n))
		n += copy(p[n:], o.buf[:m])
	}
	return n, err
}

// Sync also drops what the page cache has of the disk, as far as the user may.
func (o *openDisk) Sync() error {
	if err := o.File.Sync(); err != nil {
		return err
	}
	_ = unix.Fadvise(int(o.Fd()), 0, 0, unix.FADV_DONTNEED)
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, o.Fd(), unix.BLKFLSBUF, 0)
	return nil
}

// announce has the kernel read the new partition table, where the user may
// ask for that.
func (o *openDisk) announce() { _, _, _ = unix.Syscall(unix.SYS_IOCTL, o.Fd(), unix.BLKRRPART, 0) }

func (o *openDisk) Close() error {
	if o.direct != nil {
		o.direct.Close()
	}
	return o.File.Close()
}
