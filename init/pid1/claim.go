//go:build linux

package pid1

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/claimed"
	"github.com/waysideos/wayside/services/claim"
)

// loadClaim finds out whose the box is, and what it is called.
func loadClaim(ctx context.Context, m *Machine) error {
	owner, err := os.ReadFile(layout.RootTUF)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	k := m.trial.Load()
	var problems []string
	m.claim, problems = claimed.Load(claimed.Config{
		ESP: m.rawESP, State: m.stateFS(), Owner: owner, Now: time.Now(), Log: m.Log(),
		Hold: k == nil || k.OnTrial(), // nothing is known: touch nothing
		Hardware: func(c *claim.Claim) claim.Hardware {
			if c.MAC != "" { // drivers of network interfaces may be modules
				_ = m.devices.wait(ctx)
			}
			return hardware("/sys")
		},
	})
	for _, p := range problems {
		m.problem(p)
	}
	return nil
}

// hardware is what tells this machine from others, below a sysfs.
func hardware(sys string) (h claim.Hardware) {
	for _, file := range []string{"class/dmi/id/product_serial", "firmware/devicetree/base/serial-number"} {
		text, err := os.ReadFile(filepath.Join(sys, file))
		if h.Serial = strings.TrimSpace(strings.TrimRight(string(text), "\x00")); err == nil && h.Serial != "" {
			break
		}
	}
	// What has a device is hardware; bridges and tunnels have none.
	cards, _ := filepath.Glob(filepath.Join(sys, "class/net/*/device"))
	for _, card := range cards {
		if text, err := os.ReadFile(filepath.Join(filepath.Dir(card), "address")); err == nil {
			h.MACs = append(h.MACs, strings.ToLower(strings.TrimSpace(string(text))))
		}
	}
	return h
}
