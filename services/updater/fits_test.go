package updater

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/updater/drivers"
)

// TestDriverLeftOut: a release without a driver of a device in use is refused
// before the switch; what cannot be told is left to the trial.
func TestDriverLeftOut(t *testing.T) {
	var lost []drivers.Device
	var unknown error
	b := newBox(t, func(c *Config) {
		c.Lost = func(io.ReaderAt) ([]drivers.Device, error) { return lost, unknown }
	})
	b.publish("2.0", 2)
	b.do("refresh", b.refresh)
	lost = []drivers.Device{{Use: "net/eth0", Modalias: "virtio:d1", Module: "virtio_net"}}
	for i, verb := range []func(context.Context) error{b.prepare, b.activate} {
		if err := verb(t.Context()); err == nil || !strings.Contains(err.Error(), "release 2.0 may not be installed: it has no driver for what this box uses: net/eth0 (virtio:d1, whose driver is virtio_net)") {
			t.Errorf("%s: got %v, want the device named", []string{"prepare", "activate"}[i], err)
		}
	}
	b.init.took(t)
	lost, unknown = nil, errors.New("no file system")
	b.do("activate", b.activate)
	b.init.took(t, "/update/activate")
}
