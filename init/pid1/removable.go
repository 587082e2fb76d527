//go:build linux

package pid1

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
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
// site that neither takes updates from them nor writes files to them has none
// mounted: a file system that anybody may have made is read by the kernel
// itself.
func watchRemovable(_ context.Context, m *Machine) error {
	if m.profile == nil {
		return nil
	}
	m.repos = slices.Contains(m.profile.Profile.Update.Sources, site.SourceUSB)
	for _, s := range m.profile.Profile.Connect.FileSink {
		if s.Stick != "" {
			m.sticks = append(m.sticks, s.Stick)
		}
	}
	if !m.repos && len(m.sticks) == 0 {
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

// onBlock mounts a disk of interest as long as it is plugged in. Mounting
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
// repository, or a folder that a connector writes to. Whatever else is plugged
// in is nobody's business.
func (m *Machine) mountRemovable(node, dir string) {
	m.mounting.Lock()
	defer m.mounting.Unlock()
	if os.MkdirAll(dir, 0o755) != nil {
		return
	}
	has := func(folder string) bool {
		st, err := os.Stat(filepath.Join(dir, folder))
		return err == nil && st.IsDir()
	}
	if !mountStick(node, dir, unix.MS_RDONLY, "fmask=0133,dmask=0022") {
		leave(dir)
		return
	}
	repo, write := m.repos && has(removableRepo), slices.ContainsFunc(m.sticks, has)
	if write {
		// These file systems have one owner for all, which a remount keeps.
		_ = unix.Unmount(dir, 0)
		if err := mountFor(node, dir, manifest.ConnectUser); err != nil {
			m.Log().Warn("removable disk cannot be written to", "disk", filepath.Base(node), "err", err)
			write = false
			repo = repo && mountStick(node, dir, unix.MS_RDONLY, "fmask=0133,dmask=0022")
		}
	}
	if !repo && !write {
		leave(dir)
		return
	}
	m.Log().Info("removable disk", "disk", filepath.Base(node), "repository", repo, "written to", write)
}

func mountStick(node, dir string, flags uintptr, options string) bool {
	for _, kind := range []string{"vfat", "exfat"} {
		if unix.Mount(node, dir, kind, flags|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, options) == nil {
			return true
		}
	}
	return false
}

// mountFor mounts a stick so that a user may write to it.
func mountFor(node, dir, name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	if !mountStick(node, dir, 0, fmt.Sprintf("uid=%s,gid=%s,fmask=0133,dmask=0022", u.Uid, u.Gid)) {
		return errors.New("it cannot be mounted for writing")
	}
	return nil
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
