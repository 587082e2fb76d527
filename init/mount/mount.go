//go:build linux

// Package mount mounts what a running system needs, hands the initramfs over
// to the root, and takes everything apart again at the end.
package mount

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/layout"
)

// Point is one mount. A target that is a mount point already is left alone.
type Point struct {
	Source, Target, Type string
	Flags                uintptr
	Data                 string
	Optional             bool   // logged, not an error
	Needs                string // skipped when this path does not exist
}

const (
	noDevices = unix.MS_NOSUID | unix.MS_NODEV
	noFiles   = noDevices | unix.MS_NOEXEC
)

// API holds the kernel's own file systems; both phases mount them, whichever
// comes first.
var API = []Point{
	{Source: "proc", Target: "/proc", Type: "proc", Flags: noFiles},
	{Source: "sysfs", Target: "/sys", Type: "sysfs", Flags: noFiles},
	{Source: "devtmpfs", Target: "/dev", Type: "devtmpfs", Flags: unix.MS_NOSUID, Data: "mode=0755"},
	{Source: "tmpfs", Target: "/run", Type: "tmpfs", Flags: noDevices, Data: "mode=0755,size=20%"},
}

// Firmware is the EFI variables. Its module may come late, so it is not in
// API.
var Firmware = []Point{
	{Source: "efivarfs", Target: EFIVars, Type: "efivarfs", Flags: noFiles, Optional: true, Needs: EFIVars},
}

// EFIVars is where the firmware's variables are.
const EFIVars = "/sys/firmware/efi/efivars"

// Cgroups is where cgroup2 is mounted.
const Cgroups = "/sys/fs/cgroup"

// Root is what the root phase adds.
var Root = []Point{
	{Source: "tmpfs", Target: "/tmp", Type: "tmpfs", Flags: noDevices, Data: "mode=1777,size=20%"},
	{Source: "devpts", Target: "/dev/pts", Type: "devpts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Data: "mode=0620,gid=5", Optional: true},
	{Source: "tmpfs", Target: "/dev/shm", Type: "tmpfs", Flags: noDevices, Data: "mode=1777,size=20%", Optional: true},
	{Source: "cgroup2", Target: Cgroups, Type: "cgroup2", Flags: noFiles, Optional: true},
	{Source: "pstore", Target: "/sys/fs/pstore", Type: "pstore", Flags: noFiles, Optional: true, Needs: "/sys/fs/pstore"},
}

// All mounts the points in order.
func All(log *slog.Logger, points []Point) error {
	for _, p := range points {
		if _, err := os.Stat(p.Needs); p.Needs != "" && err != nil {
			continue
		}
		err := p.mount()
		if err != nil && p.Optional {
			log.Warn(err.Error())
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p Point) mount() error {
	if Is(p.Target) {
		return nil
	}
	if _, err := os.Stat(p.Target); errors.Is(err, os.ErrNotExist) {
		// Only on a file system that can be written; the root has them all.
		_ = os.MkdirAll(p.Target, 0o755)
	}
	if err := unix.Mount(p.Source, p.Target, p.Type, p.Flags, p.Data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", p.Type, p.Target, err)
	}
	return nil
}

// Is says whether dir is a mount point: it lies on another device than its
// parent. It works without /proc. Bind mounts within one file system escape
// it; PID 1 makes none.
func Is(dir string) bool {
	var here, above unix.Stat_t
	if unix.Stat(dir, &here) != nil || unix.Stat(filepath.Dir(dir), &above) != nil {
		return false
	}
	return here.Dev != above.Dev
}

// WithESP mounts the boot partition, read-only, while use runs. It is written
// by init/fat only.
func WithESP(node string, use func(dir string) error) (err error) {
	if err := unix.Mount(node, layout.MountESP, "vfat", noFiles|unix.MS_RDONLY, "umask=0077,shortname=mixed"); err != nil {
		return fmt.Errorf("mount the boot partition %s: %w", node, err)
	}
	defer func() {
		if e := unix.Unmount(layout.MountESP, 0); e != nil && err == nil {
			err = fmt.Errorf("unmount the boot partition: %v", e)
		}
	}()
	return use(layout.MountESP)
}

// unescape undoes the octal escapes of /proc/self/mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
