package site

import (
	"maps"
	"slices"
)

// Hardware is what hangs on the box and cannot say so itself.
type Hardware struct {
	Clock *HardwareClock `yaml:"clock,omitempty"`
}

// HardwareClock is a real-time clock on an I²C bus.
type HardwareClock struct {
	Chip string `yaml:"chip"` // a key of ClockChips
	// Bus is a part of the bus's name, as /sys/bus/i2c/devices/i2c-*/name has it.
	Bus     string `yaml:"bus"`
	Address int    `yaml:"address,omitempty"` // on the bus, 7 bits; default the chip's usual one
}

// ClockChips are the chips that the kernels of boards know, with their usual
// addresses.
var ClockChips = map[string]int{
	"ds1307": 0x68, "ds1338": 0x68, "ds3231": 0x68, "mcp7941x": 0x6f,
	"pcf8523": 0x68, "pcf85063a": 0x51, "pcf8563": 0x51, "rv8803": 0x32,
}

// At is the clock's address on its bus.
func (h *HardwareClock) At() int {
	if h.Address != 0 {
		return h.Address
	}
	return ClockChips[h.Chip]
}

func (c checker) hardware(path string, h *Hardware) {
	if h.Clock == nil {
		return
	}
	path += ".clock"
	c.text(path+".chip", h.Clock.Chip, oneOf(slices.Sorted(maps.Keys(ClockChips))...))
	c.number(path+".address", h.Clock.Address, 0x03, 0x77)
}
