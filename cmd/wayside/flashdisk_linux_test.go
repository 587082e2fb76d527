package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A computer with a system disk under LVM, a mounted stick, a card, and what
// is no disk.
func TestDisksBelow(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	device := func(dir, name, number string, sectors string) {
		write(dir+"/size", sectors)
		write(dir+"/dev", number)
		write(dir+"/queue/logical_block_size", "512")
		link := filepath.Join(root, "sys/block", name)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(root, dir), link); err != nil {
			t.Fatal(err)
		}
	}
	device("sys/devices/pci/nvme/nvme0n1", "nvme0n1", "259:0", "1000000")
	write("sys/devices/pci/nvme/nvme0n1/device/model", "Fast 500")
	write("sys/devices/pci/nvme/nvme0n1/nvme0n1p2/partition", "2")
	write("sys/devices/pci/nvme/nvme0n1/nvme0n1p2/dev", "259:2")
	device("sys/devices/virtual/block/dm-0", "dm-0", "254:0", "900000")
	if err := os.MkdirAll(filepath.Join(root, "sys/devices/pci/nvme/nvme0n1/nvme0n1p2/holders"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "sys/devices/virtual/block/dm-0"), filepath.Join(root, "sys/devices/pci/nvme/nvme0n1/nvme0n1p2/holders/dm-0")); err != nil {
		t.Fatal(err)
	}
	device("sys/devices/pci/usb1/1-1/sdb", "sdb", "8:16", "60000")
	write("sys/devices/pci/usb1/1-1/sdb/device/model", "Ultra")
	write("sys/devices/pci/usb1/1-1/sdb/sdb1/partition", "1")
	write("sys/devices/pci/usb1/1-1/sdb/sdb1/dev", "8:17")
	device("sys/devices/pci/usb1/1-2/sdc", "sdc", "8:32", "0") // a reader without a card
	device("sys/devices/platform/mmc/mmcblk0", "mmcblk0", "179:0", "70000")
	write("sys/devices/platform/mmc/mmcblk0/device/type", "SD")
	write("sys/devices/platform/mmc/mmcblk0/device/name", "SC32G")
	write("sys/devices/platform/mmc/mmcblk0/ro", "1")
	device("sys/devices/virtual/block/zram0", "zram0", "252:0", "1000")
	write("proc/self/mountinfo", "22 1 254:0 / / rw - ext4 /dev/mapper/vg-root rw\n30 22 8:17 / /media/my\\040usb rw - vfat /dev/sdb1 rw\n31 22 0:5 / /proc rw - proc proc rw")
	write("proc/swaps", "Filename Type Size Used Priority")

	got, err := disksBelow(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []blockDisk{
		{Device: "/dev/mmcblk0", Model: "SC32G", Size: 70000 * 512, Sector: 512, Removable: true, ReadOnly: true},
		{Device: "/dev/nvme0n1", Model: "Fast 500", Size: 1000000 * 512, Sector: 512, System: true, Uses: []string{"dm-0 on nvme0n1p2", "/ on dm-0"}},
		{Device: "/dev/sdb", Model: "Ultra", Size: 60000 * 512, Sector: 512, Removable: true, Uses: []string{"/media/my usb on sdb1"}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(blockDisk{})); diff != "" {
		t.Errorf("disks (-want +got):\n%s", diff)
	}
}
