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
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/uevent"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// removableRepo is the folder that makes a disk one of interest.
const removableRepo = "wayside-repo"

// removable is what is wanted of removable disks, and what there is of them.
type removable struct {
	wish       atomic.Pointer[wish]
	sync.Mutex // held while one is mounted, one after the other: a bad one may take for ever
	mounted    map[string]stick
}

// wish is what a profile has removable disks for.
type wish struct {
	repos  bool     // those with a repository count
	sticks []string // folders that connectors write to
}

// stick is a removable disk in use, by its name.
type stick struct {
	seq         string // which disk it is: see diskseq
	repo, write bool   // what for
}

func watchRemovable(_ context.Context, m *Machine) error {
	if m.profile != nil {
		m.wantRemovable(m.profile.Profile)
	}
	return nil
}

// wantRemovable looks at the disks that are there; others come as events. A
// site that neither takes updates from them nor writes files to them has none
// mounted: a file system that anybody may have made is read by the kernel
// itself.
func (m *Machine) wantRemovable(p *site.Profile) {
	if !m.removable.want(p) {
		return
	}
	there, _ := filepath.Glob("/sys/class/block/*")
	for _, dev := range there {
		m.onBlock(uevent.Event{Action: "wanted", DevName: filepath.Base(dev)})
	}
}

// want says whether something else is wanted from now on. It waits for no disk.
func (r *removable) want(p *site.Profile) (changed bool) {
	next := &wish{repos: slices.Contains(p.Update.Sources, site.SourceUSB)}
	for _, s := range p.Connect.FileSink {
		if s.Stick != "" {
			next.sticks = append(next.sticks, s.Stick)
		}
	}
	old := r.wish.Swap(next)
	if old == nil {
		old = &wish{}
	}
	return next.repos != old.repos || !slices.Equal(next.sticks, old.sticks)
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
	if !foreignDisk(name, m.disk) {
		return
	}
	switch e.Action {
	case "add", "change", "remove", "wanted":
		m.Go("removable disk "+name, func(context.Context) error { m.followRemovable(name, e.Action); return nil })
	}
}

// followRemovable does what an event of a disk asks for.
func (m *Machine) followRemovable(name, action string) {
	r := &m.removable
	r.Lock()
	defer r.Unlock()
	w := r.wish.Load()
	if w == nil {
		return
	}
	dir := filepath.Join(manifest.RemovableDir, name)
	old, in := r.mounted[name]
	// A disk tells of changes that leave it as it is, and of an end that was
	// another's, if it came in its place. Another medium in the same reader is
	// another disk.
	if in && old.seq == diskseq(name) {
		if now := w.use(dir); now.repo == old.repo && now.write == old.write {
			return
		}
	}
	if in {
		leave(dir)
		delete(r.mounted, name)
		m.Log().Info("removable disk is let go", "disk", name)
	}
	if action == "remove" || !w.repos && len(w.sticks) == 0 {
		return
	}
	// From before it is mounted: what changes meanwhile is looked at again.
	seq := diskseq(name)
	use, ok := m.mountRemovable("/dev/"+name, dir, w)
	if !ok {
		return
	}
	if r.mounted == nil {
		r.mounted = map[string]stick{}
	}
	use.seq = seq
	r.mounted[name] = use
}

// use is what a mounted disk is wanted for.
func (w *wish) use(dir string) stick {
	has := func(folder string) bool {
		st, err := os.Stat(filepath.Join(dir, folder))
		return err == nil && st.IsDir()
	}
	return stick{repo: w.repos && has(removableRepo), write: slices.ContainsFunc(w.sticks, has)}
}

// diskseq numbers the disks that the kernel has seen, each medium anew; "" when
// there is none, or no medium in it.
func diskseq(name string) string {
	dev, err := filepath.EvalSymlinks("/sys/class/block/" + name)
	if err != nil {
		return ""
	}
	if size, err := os.ReadFile(dev + "/size"); err != nil || strings.TrimSpace(string(size)) == "0" {
		return ""
	}
	if _, err := os.Stat(dev + "/partition"); err == nil {
		dev = filepath.Dir(dev)
	}
	seq, err := os.ReadFile(dev + "/diskseq") // since Linux 5.15
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(seq))
}

// mountRemovable mounts what is a file system of sticks and carries a
// repository, or a folder that a connector writes to. Whatever else is plugged
// in is nobody's business.
func (m *Machine) mountRemovable(node, dir string, w *wish) (use stick, ok bool) {
	if os.MkdirAll(dir, 0o755) != nil {
		return use, false
	}
	if !mountStick(node, dir, unix.MS_RDONLY, "fmask=0133,dmask=0022") {
		leave(dir)
		return use, false
	}
	use = w.use(dir)
	if use.write {
		// These file systems have one owner for all, which a remount keeps.
		_ = unix.Unmount(dir, 0)
		if err := mountFor(node, dir, manifest.ConnectUser); err != nil {
			m.Log().Warn("removable disk cannot be written to", "disk", filepath.Base(node), "err", err)
			use.write = false
			use.repo = use.repo && mountStick(node, dir, unix.MS_RDONLY, "fmask=0133,dmask=0022")
		}
	}
	if !use.repo && !use.write {
		leave(dir)
		return use, false
	}
	m.Log().Info("removable disk", "disk", filepath.Base(node), "repository", use.repo, "written to", use.write)
	return use, true
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
