//go:build linux

package pid1

import (
	"fmt"
	"os"
	"strings"

	"github.com/waysideos/wayside/services/manifest"
)

// memory reads /proc/meminfo; what cannot be read is zero.
func memory(file string) (m manifest.Memory) {
	text, err := os.ReadFile(file)
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(text)) {
		var name string
		var kib int64
		if n, _ := fmt.Sscan(line, &name, &kib); n != 2 {
			continue
		}
		switch name {
		case "MemTotal:":
			m.Total = kib << 10
		case "MemAvailable:":
			m.Available = kib << 10
		}
	}
	return m
}
