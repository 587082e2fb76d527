//go:build linux

package pid1

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/firstboot"
	"github.com/waysideos/wayside/init/mount"
	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/init/verity"
)

// Initramfs is the sequence from the kernel's start to the verified root.
var Initramfs = []Step{
	{"kernel file systems", mountAPI, true, 10 * time.Second},
	{"kernel log", openLog, false, 5 * time.Second},
	{"kernel settings", settings, false, 5 * time.Second},
	{"watchdog", armBuiltIn, false, 5 * time.Second},
	{"device events", listen, false, 5 * time.Second},
	{"work beside", besideInitramfs, false, 5 * time.Second},
	{"kernel modules", loadEarly, false, 90 * time.Second},
	{"hypervisor's test item", readHang, false, 5 * time.Second},
	{"find the booted slot", findSlot, true, 60 * time.Second},
	{"listed modules", waitListed, false, 10 * time.Second},
	{"open the root", openRoot, true, 30 * time.Second},
	{"the image's policy", keepPolicy, false, 5 * time.Second},
	{"switch to the root", switchRoot, true, 20 * time.Second},
}

const (
	inInitramfs = "initramfs"
	inRoot      = "root"

	sysroot = "/sysroot"
)

// store is the back end of the boot loader that the kernel image is made for.
func (m *Machine) store() (slots.Store, error) {
	pin, err := verity.ParsePin(m.cmd[layout.CmdRootHash], m.cmd[layout.CmdDataBlocks])
	if m.cmd[layout.CmdBoot] == layout.BootUBoot {
		return &slots.UBoot{Log: m.Log(), EFIVars: mount.EFIVars, Pin: pin, ESP: m.rawESP}, err
	}
	return &slots.SystemdBoot{Log: m.Log(), EFIVars: mount.EFIVars, Pin: pin, ESP: m.rawESP}, err
}

func findSlot(ctx context.Context, m *Machine) error {
	store, err := m.store()
	if err != nil {
		return refused(err)
	}
	if err := m.firmware.wait(ctx); err != nil {
		return err
	}
	m.slot, err = store.Current(ctx)
	if errors.Is(err, slots.ErrNoSlot) {
		return refused(err)
	}
	if err != nil {
		return err
	}
	m.Log().Info("slot "+string(m.slot.Role), "disk", m.slot.Disk.Name)
	// A kernel that finds the primary table broken shows no partitions.
	return firstboot.Reveal(m.slot.Disk.Name, m.slot.Disk.Table)
}

// refused words what a person at the console must see.
func refused(err error) error { return fmt.Errorf("root verification failed: %w", err) }

// waitListed waits for what the board lists, the fast hash above all: dm-verity
// keeps the one that it finds for as long as the box runs.
func waitListed(ctx context.Context, m *Machine) error { return m.listed.wait(ctx) }

func openRoot(_ context.Context, m *Machine) error {
	if err := errors.Join(m.need("dm_verity"), m.need("erofs")); err != nil {
		return err
	}
	node := "/dev/" + firstboot.Node(m.slot.Disk.Name, m.slot.Index)
	verified, err := verity.Open(m.slot.Tree, node)
	if err != nil {
		return refused(err)
	}
	_ = os.MkdirAll(sysroot, 0o755)
	if err := unix.Mount(verified, sysroot, "erofs", unix.MS_RDONLY, ""); err != nil {
		return refused(fmt.Errorf("mount %s: %w", verified, err))
	}
	if _, err := os.Stat(sysroot + layout.RootInit); err != nil {
		return refused(err)
	}
	readMore(m.Log(), verified)
	m.Log().Info("root verified", "slot", string(m.slot.Role), "hash", m.cmd[layout.CmdRootHash])
	return nil
}

// rootReadAhead is how much of the root, in KiB, is read at once; the kernel's own
// is 128. What is read of it is programs, each of which pages through most of its
// file as it starts: a service waits for the disk a third as often.
const rootReadAhead = 512

func readMore(log *slog.Logger, node string) {
	file := filepath.Join("/sys/class/block", filepath.Base(node), "queue/read_ahead_kb")
	if err := os.WriteFile(file, []byte(strconv.Itoa(rootReadAhead)), 0); err != nil {
		log.Warn("set the read-ahead of the root", "err", err)
	}
}

// switchRoot goes on in the root: the same process, for the initramfs holds
// init as the root does, byte for byte. A second start would read it again, by
// way of dm-verity, and do over what is done.
func switchRoot(_ context.Context, m *Machine) error {
	if err := mount.SwitchRoot(m.Log(), sysroot); err != nil {
		return err
	}
	m.disk, m.role = m.slot.Disk.Name, string(m.slot.Role)
	m.phase = inRoot
	m.Log().Info("phase " + m.phase)
	return nil
}
