//go:build linux

package clock

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/site"
)

// buses makes a sysfs with I²C buses of the given names, numbered from 0.
func buses(t *testing.T, names ...string) (sys string) {
	t.Helper()
	sys = t.TempDir()
	for i, name := range names {
		dir := filepath.Join(sys, "bus/i2c/devices", "i2c-"+string(rune('0'+i)))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"name": name + "\n", "new_device": ""} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return sys
}

func TestAddChip(t *testing.T) {
	sys := buses(t, "bcm2835 (i2c@7e205000)", "bcm2835 (i2c@7e804000)")
	if err := os.MkdirAll(filepath.Join(sys, "bus/i2c/devices/1-0051/rtc"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := AddChip(ctx, sys, site.HardwareClock{Chip: "pcf85063a", Bus: "i2c@7e804000"}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(sys, "bus/i2c/devices/i2c-1/new_device"))
	if err != nil || string(got) != "pcf85063a 0x51" {
		t.Errorf("the kernel is told %q (%v), want pcf85063a 0x51", got, err)
	}
}

func TestAddChipThatIsNotThere(t *testing.T) {
	sys := buses(t, "bcm2835 (i2c@7e205000)", "bcm2835 (i2c@7e804000)")
	for bus, want := range map[string]string{
		"i2c@7e804000": "does not answer",
		"bcm2835":      "2 I²C buses are named",
		"i801":         "i2c@7e205000", // those there are
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := AddChip(ctx, sys, site.HardwareClock{Chip: "ds3231", Bus: bus, Address: 0x57})
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("bus %q: got %v, want an error with %q", bus, err, want)
		}
	}
}

// A clock that the device tree tells of as well is refused, and works.
func TestAddChipThatIsThere(t *testing.T) {
	sys := buses(t, "bcm2835 (i2c@7e804000)")
	refuse := filepath.Join(sys, "bus/i2c/devices/i2c-0/new_device")
	if err := os.Remove(refuse); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(refuse, 0o755); err != nil {
		t.Fatal(err)
	}
	ds3231 := site.HardwareClock{Chip: "ds3231", Bus: "i2c@7e804000", Address: 0x57}
	if err := AddChip(t.Context(), sys, ds3231); err == nil || !strings.Contains(err.Error(), "add clock ds3231 0x57 to i2c-0") {
		t.Errorf("got %v, want it said that the kernel refuses the clock", err)
	}
	if err := os.MkdirAll(filepath.Join(sys, "bus/i2c/devices/0-0057/rtc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := AddChip(t.Context(), sys, ds3231); err != nil {
		t.Errorf("got %v of a clock that is there", err)
	}
}
