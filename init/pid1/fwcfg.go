//go:build linux

package pid1

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// QEMU hands items to its guest through fw_cfg. They exist only where a
// hypervisor gives them: on a machine of metal there is no such device.
const (
	fwcfgDir = "/sys/firmware/qemu_fw_cfg/by_name"
	// fwcfgHang names the phase in which PID 1 shall hang, so that a test can
	// see the hardware watchdog reset the box: "initramfs", "root" (before a
	// step of that phase, the next one or that of "initramfs:STEP") or
	// "main-loop". Nothing of PID 1 moves on then, and the watchdog's lease runs
	// out.
	fwcfgHang = "opt/io.wayside/test.hang"
	// fwcfgService is "SERVICE:WORD": what that service shall do after its
	// first start, or with "crashloop" after each, so that a test can see it
	// supervised. cmd/waysided reads the word from its environment and knows
	// what there is.
	fwcfgService = "opt/io.wayside/test.service"
	// fwcfgWithout names a kernel module that the root shall not have.
	fwcfgWithout = "opt/io.wayside/test.without"
	// fwcfgNetwork is the address, as a CIDR, that init shall take the site
	// profile's network section for.
	fwcfgNetwork = "opt/io.wayside/test.network"
	// fwcfgActivate is a manifest.Activate as JSON: what init activates, and
	// starts over for, once all services are ready. A test that has staged a
	// release from outside needs no updater for it.
	fwcfgActivate = "opt/io.wayside/test.activate"
)

// forVersion is an item's word if it is for the running version: one that ends
// in "@VERSION" is for that alone, so that a test can hurt an update and leave
// what it falls back to.
func (m *Machine) forVersion(item string) string {
	word, version, only := strings.Cut(item, "@")
	if only && version != m.cmd[layout.CmdVersion] {
		return ""
	}
	return word
}

// testEnv is the environment of first starts, and of each, that the hypervisor
// asks for.
func (m *Machine) testEnv() (first, each map[string][]string, err error) {
	item, err := fwcfgItem(fwcfgService)
	name, word, ok := strings.Cut(m.forVersion(item), ":")
	if err != nil || !ok {
		return nil, nil, err
	}
	env := map[string][]string{name: {"WAYSIDE_TEST=" + word}}
	if word == "crashloop" {
		return nil, env, nil
	}
	return env, nil, nil
}

// testNetwork replaces what the profile says by what the hypervisor wants.
func (m *Machine) testNetwork(n site.Network) site.Network {
	item, err := fwcfgItem(fwcfgNetwork)
	if address := m.forVersion(item); err == nil && address != "" {
		n.Interfaces = []site.Interface{{Match: "*", Addresses: []string{address}}}
	}
	return n
}

// fwcfgItem reads an item; "" if there is none.
func fwcfgItem(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(fwcfgDir, name, "raw"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read fw_cfg item %s: %w", name, err)
	}
	return strings.TrimRight(string(b), "\x00\n"), nil
}

func readHang(_ context.Context, m *Machine) (err error) {
	item, err := fwcfgItem(fwcfgHang)
	m.hang = m.forVersion(item)
	return err
}

// hangIf blocks for ever if the hypervisor wants this phase to hang.
func (m *Machine) hangIf(where string) {
	if phase, step, one := strings.Cut(m.hang, ":"); m.hang != "" && phase == m.phase && (!one || step == where) {
		m.Log().Error("hanging on request of the hypervisor", "phase", m.phase, "before", where)
		select {}
	}
}

// copyAdvertised passes on the address by which clients behind QEMU's user
// network reach the broker.
func copyAdvertised(context.Context, *Machine) error {
	value, err := fwcfgItem(layout.FWCfgAdvertised)
	if err != nil || value == "" {
		return err
	}
	return os.WriteFile(manifest.Advertised, []byte(value), 0o644)
}
