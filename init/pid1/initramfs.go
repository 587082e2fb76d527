//go:build linux

package pid1

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/firstboot"
	"github.com/waysideos/wayside/init/mount"
	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/init/verity"
	"github.com/waysideos/wayside/init/watchdog"
)

// Initramfs is the sequence from the kernel's start to the verified root. Its
// last step does not return.
var Initramfs = append(early[:len(early):len(early)],
	Step{"watchdog driver", needDog, false, 5 * time.Second},
	Step{"find the booted slot", findSlot, true, 60 * time.Second},
	Step{"open the root", openRoot, true, 30 * time.Second},
	Step{"the image's policy", keepPolicy, false, 5 * time.Second},
	Step{"switch to the root", switchRoot, true, 20 * time.Second},
)

const (
	inInitramfs = "initramfs"
	inRoot      = "root"

	// initrdRelease marks the initramfs (systemd's initrd interface).
	initrdRelease = "/etc/initrd-release"
	sysroot       = "/sysroot"

	// What one phase tells the next, as environment.
	envWatchdog = "WAYSIDE_WATCHDOG" // "FD:NAME"
	envDisk     = "WAYSIDE_DISK"
	envSlot     = "WAYSIDE_SLOT"
)

// self is the path of the running binary.
func (m *Machine) self() string {
	if m.phase == inInitramfs {
		return "/init"
	}
	return layout.RootInit
}

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

func openRoot(_ context.Context, m *Machine) error {
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
	m.Log().Info("root verified", "slot", string(m.slot.Role), "hash", m.cmd[layout.CmdRootHash])
	return nil
}

// switchRoot hands over to the init of the root: same process, same
// watchdog, other file system.
func switchRoot(_ context.Context, m *Machine) error {
	env := append(os.Environ(), envDisk+"="+m.slot.Disk.Name, envSlot+"="+string(m.slot.Role))
	if dog := m.watched(); dog != nil {
		fd, err := dog.Leave()
		if err != nil {
			return fmt.Errorf("hand over the watchdog: %w", err)
		}
		env = append(env, fmt.Sprintf("%s=%d:%s", envWatchdog, fd, dog.Name))
	}
	if err := mount.SwitchRoot(m.Log(), sysroot); err != nil {
		return err
	}
	err := fmt.Errorf("run %s: %w", layout.RootInit, syscall.Exec(layout.RootInit, []string{layout.RootInit}, env))
	if errors.Is(err, unix.EIO) { // a bad block: the kernel has named it
		return refused(err)
	}
	return err
}

// inheritDog takes the watchdog over from the phase before, or arms one whose
// driver is built in.
func inheritDog(_ context.Context, m *Machine) error {
	given := os.Getenv(envWatchdog)
	if given == "" {
		_ = m.attachDog(false)
		return nil
	}
	number, name, _ := strings.Cut(given, ":")
	fd, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("inherit watchdog: %q: %v", given, err)
	}
	dog, err := watchdog.Inherit(fd, name)
	if err != nil {
		return err
	}
	return m.adopt(dog, "watchdog taken over")
}
