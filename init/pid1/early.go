//go:build linux

package pid1

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/kmsg"
	"github.com/waysideos/wayside/init/modules"
	"github.com/waysideos/wayside/init/mount"
	"github.com/waysideos/wayside/init/uevent"
	"github.com/waysideos/wayside/init/watchdog"
)

func mountAPI(_ context.Context, m *Machine) error { return mount.All(m.Log(), mount.API) }

func openLog(_ context.Context, m *Machine) error {
	m.log.Store(kmsg.Open(os.Stderr))
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read the command line: %w", err)
	}
	m.cmd = parseCmdline(string(b))
	m.Log().Info("phase " + m.phase) // the kernel is done; make bench-boot measures from here
	return nil
}

// sysctl is what differs from the kernel's own settings, as files below
// /proc/sys.
var sysctl = []struct{ name, value, unless string }{
	// A kernel that stumbled, or that lost PID 1, starts over by itself.
	{"kernel/panic", "10", "0"},
	{"kernel/panic_on_oops", "1", ""},
	// The kernel asks PID 1's own binary for file systems, ciphers and
	// protocols it lacks; see modules.Modprobe. It lies in memory, as a file
	// of the initramfs that is left behind.
	{"kernel/modprobe", "/proc/1/exe", ""},
	// What a service must not learn of the kernel or of others.
	{"kernel/kptr_restrict", "1", ""},
	{"kernel/dmesg_restrict", "1", ""},
	{"fs/protected_hardlinks", "1", ""},
	{"fs/protected_symlinks", "1", ""},
	{"fs/suid_dumpable", "0", ""},
}

func settings(_ context.Context, m *Machine) error {
	var all []error
	for _, s := range sysctl {
		file := filepath.Join("/proc/sys", s.name)
		if s.unless != "" { // set by the command line?
			if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) != s.unless {
				continue
			}
		}
		if err := os.WriteFile(file, []byte(s.value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = append(all, fmt.Errorf("set %s: %w", s.name, err))
		}
	}
	// Ctrl-Alt-Del becomes SIGINT to us rather than a reset without a sync.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		all = append(all, fmt.Errorf("take over ctrl-alt-del: %w", err))
	}
	return errors.Join(all...)
}

func listen(_ context.Context, m *Machine) (err error) {
	if m.listener, err = uevent.Open(); err != nil {
		return err
	}
	l, err := modules.Open(m.Log())
	m.modules.Store(l)
	giveSerials()
	m.Go("device events", func(ctx context.Context) error {
		return m.listener.Run(ctx, m.onEvent)
	})
	return err
}

// giveSerials serves the serial ports that are there; others come as events.
func giveSerials() {
	there, _ := filepath.Glob("/sys/class/tty/tty*")
	for _, dev := range there {
		giveSerial(dev)
	}
}

// onEvent serves devices as they appear.
func (m *Machine) onEvent(e uevent.Event) {
	if e.Subsystem == "block" {
		m.onBlock(e)
	}
	if e.Action == "remove" && e.Subsystem == "tty" {
		unlinkSerial(serialLinks, filepath.Base(e.DevName))
	}
	if e.Action != "add" {
		return
	}
	switch {
	case e.Subsystem == "tty":
		giveSerial(e.DevName)
	case e.Subsystem == "watchdog":
		_ = m.attachDog(false)
	case e.Subsystem == "input" && strings.HasPrefix(e.DevName, "input/event"):
		if b := m.buttons.Load(); b != nil {
			b.watch(e.DevName)
		}
	case e.Modalias != "":
		if l := m.modules.Load(); l != nil {
			l.LoadAlias(e.Modalias)
		}
	}
}

// attachDog arms the hardware watchdog as soon as its driver is there: that
// which the board declares, or any, where it declares none or nothing more is
// to come.
func (m *Machine) attachDog(others bool) error {
	m.attaching.Lock()
	defer m.attaching.Unlock()
	if m.watched() != nil {
		return nil
	}
	dog, err := watchdog.Open(m.cmd.watchdog(watchdog.DefaultTimeout), m.cmd.watchdogs(), others)
	if err != nil {
		return err
	}
	return m.adopt(dog, "watchdog armed")
}

// adopt feeds dog from now on.
func (m *Machine) adopt(dog *watchdog.Device, how string) error {
	timeout, err := dog.Timeout()
	if err != nil || timeout <= 0 {
		timeout = watchdog.DefaultTimeout
	}
	m.mu.Lock()
	m.dog = dog
	m.mu.Unlock()
	m.Feeder.Attach(dog.Feed)
	// A shutdown is fed to its end: this one outlives all that Go starts.
	m.forever("watchdog", func() { m.Feeder.Run(context.Background(), min(timeout/4, 5*time.Second)) })
	m.Log().Info(how, "device", dog.Name, "identity", dog.Identity, "timeout", timeout.String())
	return nil
}

func (m *Machine) watched() *watchdog.Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dog
}

// armBuiltIn arms a watchdog whose driver is part of the kernel. Others follow
// as they appear.
func armBuiltIn(_ context.Context, m *Machine) error {
	if err := m.attachDog(false); !errors.Is(err, watchdog.ErrNone) {
		return err
	}
	return nil
}

// needDog is the last word on the watchdog after all modules are loaded.
func needDog(_ context.Context, m *Machine) error {
	err := m.attachDog(true)
	if errors.Is(err, watchdog.ErrNone) {
		return fmt.Errorf("%w: a hung system stays hung", err)
	}
	return err
}
