//go:build linux

package pid1

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/flash"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/install"
	"github.com/waysideos/wayside/init/verity"
	"github.com/waysideos/wayside/services/site"
)

// lookForInstall reads what makes this disk an installer. Of any other box it
// costs a look at the boot partition's folders.
func lookForInstall(_ context.Context, m *Machine) error {
	if m.disk == "" {
		return nil
	}
	f, size, err := openDisk(m.disk, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := install.ReadFile(f, size, runtime.GOARCH)
	if err != nil || text == nil {
		return err
	}
	// It is an installer, if a broken one: nothing else is done with it.
	m.install, err = site.ParseInstall(layout.ESPInstall, text)
	if err != nil {
		m.problem(err.Error())
		m.install = &site.Install{Version: 1, Wipe: site.WipeNo}
	}
	return nil
}

// installIfAsked copies this system to a disk of the machine and switches the
// machine off. An error ends in the failure path: the stick starts over.
func installIfAsked(ctx context.Context, m *Machine) error {
	if m.install == nil {
		return nil
	}
	people, err := openTerminals()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer people.Close()
	defer cancel()
	people.listen(ctx, m.lastly)
	target, err := m.chooseTarget(ctx, people)
	if err != nil {
		return err
	}
	if err := m.installTo(ctx, target); err != nil {
		return err
	}
	m.Log().Info("installed", "disk", target.Name)
	people.Tell("\nwayside: installed on " + target.Node() + ". Remove the stick. The machine switches itself off.\n")
	m.served <- nil // no services were started; end waits for none
	m.end(request{actionPowerOff, "installed on " + target.Node()})
	return nil
}

// chooseTarget follows the install file, and asks where it does not say.
func (m *Machine) chooseTarget(ctx context.Context, people install.Person) (install.Disk, error) {
	all, err := m.targets(ctx)
	if err != nil {
		return install.Disk{}, err
	}
	chosen, err := install.Choose(all, m.install)
	if err != nil {
		return install.Disk{}, err
	}
	if chosen != nil && install.Granted(*chosen, m.install) {
		return *chosen, nil
	}
	m.Log().Info("the installer waits at the console")
	return install.Confirm(ctx, people, install.Fitting(all, m.install), chosen)
}

// quietDisks is how long no disk may have come or gone before one is chosen:
// each driver shows its own when it is ready, and the first is rarely the
// smallest, nor the only one.
const quietDisks = 5 * time.Second

// targets are the disks to install to, once drivers have found them all.
func (m *Machine) targets(ctx context.Context) ([]install.Disk, error) {
	// As long as it takes: one driver that hangs is given up in time.
	if err := m.devices.wait(ctx); err != nil {
		return nil, fmt.Errorf("wait for the disks' drivers: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var all []install.Disk
	for since := time.Now(); ctx.Err() == nil && (len(all) == 0 || time.Since(since) < quietDisks); {
		found, err := install.List("/sys", m.disk)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(found, all) {
			all, since = found, time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	if len(all) == 0 {
		return nil, install.ErrNone
	}
	for i := range all {
		f, size, err := openDisk(all[i].Name, os.O_RDONLY)
		if err != nil {
			all[i].Box = true // nobody knows: a person decides
			continue
		}
		all[i].Box = install.IsBox(f, size, runtime.GOARCH)
		f.Close()
	}
	return all, nil
}

func (m *Machine) installTo(ctx context.Context, target install.Disk) error {
	if m.role != string(layout.RootA) {
		return fmt.Errorf("this stick runs from slot %s, after an update: write it anew", m.role)
	}
	pin, err := verity.ParsePin(m.cmd[layout.CmdRootHash], m.cmd[layout.CmdDataBlocks])
	if err != nil {
		return err
	}
	stick, size, err := openDisk(m.disk, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer stick.Close()
	root, err := openVerified()
	if err != nil {
		return err
	}
	defer root.Close()
	to, room, err := openDisk(target.Name, os.O_RDWR|unix.O_EXCL)
	if err != nil {
		return err
	}
	defer to.Close()
	m.Log().Info("installing", "disk", target.String())
	// The step's own lease is for a person who takes their time.
	m.Feeder.Extend(copyLease)
	step := ""
	state, err := install.Run(ctx, install.Source{
		Disk: stick, Size: size, Root: root, RootBytes: int64(pin.DataBlocks) * layout.VerityBlock, SlotBytes: pin.Size(),
		Arch: runtime.GOARCH, Random: rand.Reader,
	}, flushedDisk{to}, room, func(p flash.Progress) {
		m.Feeder.Extend(copyLease)
		if p.Step != step {
			step = p.Step
			m.Log().Info("installing: "+step, "MiB", p.Total>>20)
		}
	})
	if err != nil {
		return fmt.Errorf("install to %s: %w; of the disk: %s", target.Node(), err, state)
	}
	return nil
}

// copyLease is what a piece of the copy wins from the watchdog: a disk may be
// slow, but not stand still.
const copyLease = 5 * time.Minute

func openDisk(name string, flags int) (*os.File, int64, error) {
	f, err := os.OpenFile("/dev/"+name, flags, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open %s: %w", name, err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("measure %s: %w", name, err)
	}
	return f, size, nil
}

// openVerified opens the device that the root is mounted from: a block that
// was altered is an error there.
func openVerified() (*os.File, error) {
	names, err := filepath.Glob("/sys/block/dm-*/dm/name")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == layout.DeviceRoot {
			return os.Open("/dev/" + filepath.Base(filepath.Dir(filepath.Dir(n))))
		}
	}
	return nil, errors.New("the root is not mounted by dm-verity")
}

// flushedDisk is a whole disk of which nothing stays in the page cache after
// a sync: what is read back comes from the disk itself.
type flushedDisk struct{ *os.File }

func (d flushedDisk) Sync() error {
	if err := d.File.Sync(); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), unix.BLKFLSBUF, 0); errno != 0 {
		return fmt.Errorf("drop what is cached of %s: %v", d.Name(), errno)
	}
	return nil
}
