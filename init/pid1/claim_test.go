//go:build linux

package pid1

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

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

// An interface that comes late is waited for, one that never comes for a while.
func TestWithCard(t *testing.T) {
	sys, mac := t.TempDir(), "52:54:00:ab:cd:ef"
	if h := withCard(t.Context(), sys, mac, time.Millisecond); len(h.MACs) != 0 {
		t.Errorf("got %+v, want none", h)
	}
	plugged := make(chan error, 1)
	go func() {
		card := sys + "/class/net/eth0"
		plugged <- errors.Join(os.MkdirAll(card+"/device", 0o755), os.WriteFile(card+"/address", []byte(mac+"\n"), 0o644))
	}()
	h := withCard(t.Context(), sys, mac, time.Minute)
	if diff := cmp.Diff(claim.Hardware{MACs: []string{mac}}, h); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := <-plugged; err != nil {
		t.Error(err)
	}
}
