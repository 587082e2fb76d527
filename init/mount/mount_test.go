//go:build linux

package mount

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const mountinfo = `1 1 254:1 / / ro,relatime - erofs /dev/dm-0 ro
20 1 0:5 / /proc rw,nosuid shared:2 - proc proc rw
21 1 0:6 / /run rw - tmpfs tmpfs rw
22 1 8:4 / /state rw - ext4 /dev/sda4 rw
23 1 8:5 / /var/lib rw master:1 - ext4 /dev/sda5 rw
24 23 8:6 / /var/lib/a\040b rw - vfat /dev/sdb1 rw
broken line
`

func TestDiskMounts(t *testing.T) {
	want := []string{"/var/lib/a b", "/var/lib", "/state"}
	if diff := cmp.Diff(want, diskMounts(strings.NewReader(mountinfo))); diff != "" {
		t.Errorf("order of unmounting (-want +got):\n%s", diff)
	}
}

func TestIs(t *testing.T) {
	if !Is("/proc") || Is("/proc/self") || Is("/nonesuch") {
		t.Errorf("got %v, %v, %v, want only /proc to be a mount point", Is("/proc"), Is("/proc/self"), Is("/nonesuch"))
	}
}

func FuzzDiskMounts(f *testing.F) {
	f.Add(mountinfo)
	f.Fuzz(func(_ *testing.T, s string) { diskMounts(strings.NewReader(s)) })
}
