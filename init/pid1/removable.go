//go:build linux

package pid1

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/uevent"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// removableRepo is the folder that makes a disk one of interest.
const removableRepo = "wayside-repo"

// watchRemovable looks at the disks that are there; others come as events. A
// site that does not take updates from them has none mounted: a file system
// that anybody may have made is read by the kernel itself.
func watchRemovable(_ context.Context, m *Machine) error {
	if m.profile == nil || !slices.Contains(m.profile.Profile.Update.Sources, site.SourceUSB) {
		return nil
	}
	m.removable.Store(true)
	there, err := filepath.Glob("/sys/class/block/*")
	if err != nil {
		return err
	}
	for _, dev := range there {
		m.onBlock(uevent.Event{Action: "add", DevName: filepath.Base(dev)})
	}
	return nil
}

// foreignDisk says whether a block device is neither the booted disk's nor
// made by the kernel.
func foreignDisk(name, booted string) bool {
	for _, p := range []string{"loop", "ram", "zram", "dm-", "md", "nbd"} {
		if strings.HasPrefix(name, p) {
			return false
		}
	}
	rest, same := strings.CutPrefix(name, booted)
	return booted != "" && (!same || strings.TrimLeft(rest, "p0123456789") != "")
}

// onBlock mounts a disk with a repository as long as it is plugged in. Mounting
// may take long: events do not wait for it.
func (m *Machine) onBlock(e uevent.Event) {
	name := filepath.Base(e.DevName)
	if !m.removable.Load() || !foreignDisk(name, m.disk) {
		return
	}
	dir := filepath.Join(manifest.RemovableDir, name)
	switch e.Action {
	case "add", "change":
		m.Go("removable disk "+name, func(context.Context) error { m.mountRemovable("/dev/"+name, dir); return nil })
	case "remove":
		m.Go("removable disk "+name, func(context.Context) error { leave(dir); return nil })
	}
}

// mountRemovable mounts what is a file system of sticks and carries a
// repository. Whatever else is plugged in is nobody's business.
func (m *Machine) mountRemovable(node, dir string) {
	m.mounting.Lock()
	defer m.mounting.Unlock()
	if os.MkdirAll(dir, 0o755) != nil {
		return
	}
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	mounted := false
	for _, kind := range []string{"vfat", "exfat"} {
		if mounted = unix.Mount(node, dir, kind, flags, "fmask=0133,dmask=0022") == nil; mounted {
			break
		}
	}
	if st, err := os.Stat(filepath.Join(dir, removableRepo)); !mounted || err != nil || !st.IsDir() {
		leave(dir)
		return
	}
	m.Log().Info("removable disk with a repository", "disk", filepath.Base(node))
}

// leave lets a disk go that may be gone already.
func leave(dir string) {
	_ = unix.Unmount(dir, unix.MNT_DETACH)
	_ = os.Remove(dir)
}

// removables are the folders of repositories that are there.
func removables() []string {
	found, _ := filepath.Glob(filepath.Join(manifest.RemovableDir, "*", removableRepo))
	return found
}
