//go:build linux

package pid1

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/modules"
	"github.com/waysideos/wayside/init/mount"
	"github.com/waysideos/wayside/init/watchdog"
)

// What goes on beside the two sequences, on other processors. Its steps are
// none of the sequence's business but where that waits at a gate: they never
// renew the watchdog's lease, and the box works on if one of them hangs.

// gate is closed when what it stands for is over, well or not.
type gate chan struct{}

// wait returns when the gate is open, or with ctx's error.
func (g gate) wait(ctx context.Context) error {
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// beside is a step that opens a gate, if it has one.
type beside struct {
	Name     string
	Do       func(ctx context.Context, m *Machine) error
	Opens    func(m *Machine) gate
	Deadline time.Duration
}

// earlyBeside needs no root. The firmware's variables come first: they are
// read by calls into the firmware, which take long.
var earlyBeside = []beside{
	{"firmware variables", mountFirmware, func(m *Machine) gate { return m.firmware }, 30 * time.Second},
	{"modules of the root", loadListed, func(m *Machine) gate { return m.listed }, 60 * time.Second},
	{"modules of file systems", loadFileSystems, func(m *Machine) gate { return m.mountable }, 60 * time.Second},
}

// notForRoot are the listed modules that the root is opened without.
var notForRoot = []string{"vfat", "nls_ascii", "nls_cp437", "ext4"}

// rootBeside needs the root.
var rootBeside = []beside{
	{"kernel modules", loadDevices, func(m *Machine) gate { return m.devices }, 90 * time.Second},
	{"watchdog driver", needDog, func(m *Machine) gate { return m.armed }, 5 * time.Second},
	{"modules of the processor", loadLast, nil, 3 * time.Minute},
}

func besideInitramfs(_ context.Context, m *Machine) error { return m.besides(earlyBeside) }

func besideRoot(_ context.Context, m *Machine) error {
	giveSerials() // one may have come while /sys moved into the root
	return m.besides(rootBeside)
}

// besides does the steps one after the other while the sequence goes on.
func (m *Machine) besides(steps []beside) error {
	m.Go(steps[0].Name, func(ctx context.Context) error {
		for _, s := range steps {
			begin := time.Now()
			err := bounded(ctx, s.Deadline, func(ctx context.Context) error { return s.Do(ctx, m) })
			m.spent.step("beside: "+s.Name, time.Since(begin))
			if s.Opens != nil {
				close(s.Opens(m))
			}
			if err != nil && ctx.Err() == nil {
				m.problem(fmt.Sprintf("%s: %v", s.Name, err))
			}
		}
		return nil
	})
	return nil
}

func mountFirmware(_ context.Context, m *Machine) error {
	err := m.need("efivarfs")
	return errors.Join(err, mount.All(m.Log(), mount.Firmware))
}

// need loads a module, or waits for it; one that is not in this release may be
// part of the kernel.
func (m *Machine) need(name string) error {
	l := m.modules.Load()
	if l == nil {
		return nil
	}
	if err := l.Load(name); !errors.Is(err, modules.ErrUnknown) {
		return err
	}
	return nil
}

// loadEarly loads what the devices ask for that are there: the disk's driver
// and the watchdog's. Those behind them come as events.
func loadEarly(_ context.Context, m *Machine) error {
	l := m.modules.Load()
	if l == nil {
		return errors.New("there is no module index")
	}
	_, err := l.Scan("/sys", modules.Devices)
	if dogErr := m.attachDog(true); !errors.Is(dogErr, watchdog.ErrNone) {
		err = errors.Join(err, dogErr)
	}
	m.Log().Info("kernel modules loaded", "count", l.Count())
	return err
}

// loadListed loads what the board lists and no device asks for, but for file
// systems that have time: the root is opened while these come.
func loadListed(_ context.Context, m *Machine) error {
	l := m.modules.Load()
	if l == nil {
		return nil // was said
	}
	return l.LoadList(layout.RootModulesLoad, notForRoot...)
}

func loadFileSystems(_ context.Context, m *Machine) error {
	l := m.modules.Load()
	if l == nil {
		return nil
	}
	return l.LoadList(layout.RootModulesLoad)
}

// loadDevices loads the root's modules.
func loadDevices(ctx context.Context, m *Machine) error {
	if err := m.mountable.wait(ctx); err != nil { // the next loader knows nothing of the one before
		return err
	}
	l, err := modules.Open(m.Log())
	if err != nil {
		return err
	}
	item, itemErr := fwcfgItem(fwcfgWithout)
	if name := m.forVersion(item); name != "" {
		l.Without(name)
	}
	m.spent.loaded(m.modules.Swap(l))
	err = errors.Join(l.LoadList(layout.RootModulesLoad), itemErr, l.Coldplug(ctx, "/sys", modules.Devices))
	m.Log().Info("kernel modules loaded", "count", l.Count())
	if lost := l.Missing(); len(lost) > 0 {
		err = errors.Join(err, fmt.Errorf("this release lacks %s", strings.Join(lost, ", ")))
	}
	return err
}

// loadLast waits until the services are ready, or have had a minute to be.
func loadLast(ctx context.Context, m *Machine) error {
	soon, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_ = m.ready.wait(soon)
	return m.loadProcessors(ctx)
}

// loadProcessors loads what the processor is good at. Nothing of it is needed to
// start, each cipher has the kernel ask for a dozen modules that nobody has, and
// so it comes last, but for a box with an encrypted disk: what does its ciphers
// when it is opened does them ever after.
func (m *Machine) loadProcessors(ctx context.Context) error {
	if err := m.devices.wait(ctx); err != nil { // before that, nobody knows the root's modules
		return err
	}
	l := m.modules.Load()
	if l == nil {
		return nil
	}
	return l.Coldplug(ctx, "/sys", modules.Processors)
}
