//go:build linux

package pid1

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/claim"
)

func TestHardware(t *testing.T) {
	pc, pi := t.TempDir(), t.TempDir()
	for file, text := range map[string]string{
		pc + "/class/dmi/id/product_serial":            "C0FFEE \n",
		pc + "/class/net/eth0/address":                 "52:54:00:AB:CD:EF\n",
		pc + "/class/net/eth0/device/x":                "",
		pc + "/class/net/lo/address":                   "00:00:00:00:00:00\n",
		pi + "/class/dmi/id/product_serial":            "\n",
		pi + "/firmware/devicetree/base/serial-number": "10000000abcdef01\x00",
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for sys, want := range map[string]claim.Hardware{
		pc:          {Serial: "C0FFEE", MACs: []string{"52:54:00:ab:cd:ef"}},
		pi:          {Serial: "10000000abcdef01"},
		t.TempDir(): {},
	} {
		if diff := cmp.Diff(want, hardware(sys)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
