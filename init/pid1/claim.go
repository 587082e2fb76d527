//go:build linux

package pid1

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
		Hardware: func(c *claim.Claim) (claim.Hardware, error) {
			if c.MAC == "" {
				return hardware("/sys"), nil
			}
			if err := m.devices.wait(ctx); err != nil { // an interface's driver may be a module
				return claim.Hardware{}, fmt.Errorf("wait for drivers: %w", err)
			}
			return withCard(ctx, "/sys", c.MAC, cardPatience), nil
		},
	})
	for _, p := range problems {
		m.problem(p)
	}
	return nil
}

// cardPatience is what a network interface gets to show itself once all drivers
// are there: those on USB, as a Raspberry Pi 3's, come after their bus. Only a
// claim for another machine waits for all of it.
const cardPatience = 15 * time.Second

// withCard is hardware once an interface has the address mac, or patience is over.
func withCard(ctx context.Context, sys, mac string, patience time.Duration) claim.Hardware {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		h := hardware(sys)
		if slices.Contains(h.MACs, mac) {
			return h
		}
		select {
		case <-ctx.Done():
			return h
		case <-time.After(100 * time.Millisecond):
		}
	}
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
