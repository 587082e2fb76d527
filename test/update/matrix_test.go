package update

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/test/harness"
)

var matrix = flag.Bool("matrix", false, "all faults in virtual machines, one after the other, and not only a sample")

// fault is what strikes a new version, and what must come of it.
type fault struct {
	name  string
	item  string // of the hypervisor's table, for the new version alone
	word  string
	check string // that fails it
	why   string // part of the reason
	blame string // "" is the version
}

// items are for the machine's table.
func (f fault) items(version string) map[string]string {
	if f.item == "" {
		return nil
	}
	return map[string]string{"opt/io.wayside/test." + f.item: f.word + "@" + version}
}

// early are faults that are certain before the trial's limit.
var early = []fault{
	{"a service crashes again and again", "service", "mqtt:crashloop", "services", "mqtt crashes again and again", ""},
	{"the broker answers wrongly", "service", "broker:lie", "canary", "the broker is wrong", ""},
	{"a kernel module is missing", "without", "virtio_rng", "kernel modules", "cannot now: virtio_rng", ""},
	{"the updater crashes", "service", "updater:crashloop", "init", "the updater, which was to judge this version, does not stay up", ""},
}

// fails has the box try a version that a fault strikes, and waits until it is
// back on the old one and says why.
func (u *updates) fails(version, old string, f fault) {
	u.t.Helper()
	begin := time.Now()
	u.verb("refresh")
	u.verb("prepare")
	u.verb("activate")
	u.verb("reboot")
	var last manifest.Outcome
	harness.Eventually(u.t, 3*harness.BootTime, version+" is given up", func(context.Context) error {
		s, err := u.state()
		switch {
		case err != nil:
			return err
		case s.Last != nil && s.Last.Version == version && s.Last.Committed:
			u.t.Fatalf("%s: the version was kept: %+v", f.name, s.Last)
		case s.Last == nil || s.Last.Version != version || s.Running != old:
			return fmt.Errorf("runs %s, phase %s", s.Running, s.Phase)
		case s.Blame != cmp.Or(f.blame, "version"):
			return fmt.Errorf("blames %q", s.Blame)
		}
		last = *s.Last
		return nil
	})
	if last.Check != f.check || !strings.Contains(last.Reason, f.why) {
		u.t.Errorf("%s: the box says %s: %s; want %s: %s", f.name, last.Check, last.Reason, f.check, f.why)
	}
	u.t.Logf("%-40s %3.0f s  %s: %s", f.name, time.Since(begin).Seconds(), last.Check, last.Reason)
}

// TestFaultMatrix strikes the new version with one fault after the other. Each
// time the box ends on the old version, with all records, and the right reason.
func TestFaultMatrix(t *testing.T) {
	harness.NeedVM(t)
	if !*matrix {
		t.Skip("takes a quarter of an hour: run make test-updates")
	}
}
