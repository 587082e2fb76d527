//go:build linux

package clock

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/site"
)

// AddChip tells the kernel of a real-time clock on an I²C bus, below a sysfs
// ("/sys"), and waits until its driver has it. The kernel then sets its own
// clock by it, if it is the machine's only one (CONFIG_RTC_HCTOSYS), whatever
// it says: Floor must judge that anew.
func AddChip(ctx context.Context, sys string, h site.HardwareClock) error {
	bus, err := findBus(sys, h.Bus)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s 0x%02x", h.Chip, h.At())
	_, number, _ := strings.Cut(filepath.Base(bus), "-")
	device := filepath.Join(sys, "bus/i2c/devices", fmt.Sprintf("%s-%04x", number, h.At()))
	// One that the device tree tells of is refused (EBUSY), and there.
	if err := os.WriteFile(filepath.Join(bus, "new_device"), []byte(what), 0); err != nil {
		if _, missing := os.Stat(device); missing != nil {
			return fmt.Errorf("add clock %s to %s: %v", what, filepath.Base(bus), err)
		}
	}
	driver := filepath.Join(device, "rtc")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(driver); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("clock %s on %s does not answer, or this kernel has no driver for it", what, filepath.Base(bus))
		}
	}
}

// findBus returns the folder of the one bus whose name holds text.
func findBus(sys, text string) (string, error) {
	names, err := filepath.Glob(filepath.Join(sys, "bus/i2c/devices/i2c-*/name"))
	if err != nil {
		return "", err
	}
	var found, all []string
	for _, file := range names {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // gone meanwhile
		}
		name := strings.TrimSpace(string(b))
		all = append(all, name)
		if strings.Contains(name, text) {
			found = append(found, filepath.Dir(file))
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d I²C buses are named %q: this machine has %q", len(found), text, all)
	}
	return found[0], nil
}
