package replication

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/test/harness"
)

// TestWipedKafka: the centre's disk is replaced by an empty one. It gets all
// that the box still has, and the link's note says so.
func TestWipedKafka(t *testing.T) {
	need(t)
	t.Parallel()
	proxy := harness.StartProxy(t) // the address that stays
	old := harness.StartKafkaBehind(t, proxy.Addr)
	proxy.Target(old.GuestListen)
	_, box := startBroker(t, nil)
	harness.CreateTopic(t, box, "sensors", 1)
	link := newService(t, "replicator", "--broker", box, "--site", writeFile(t, "site.yaml", fmt.Sprintf(
		"version: 1\nsite: shop\nlinks: [{name: hq, bootstrap: [%q], topics: [sensors]}]\n", proxy.Addr)))
	link.start()
	put(t, box, "sensors", "21.5")
	holds(t, old.HostAddr, "sensors", "21.5")
	old.Kill()
	anew := harness.StartKafkaBehind(t, proxy.Addr)
	proxy.Target(anew.GuestListen)
	put(t, box, "sensors", "22")
	holds(t, anew.HostAddr, "sensors", "21.5", "22")
	harness.Eventually(t, time.Minute, "the wiping is told", func(ctx context.Context) error {
		rep, err := link.status(ctx)
		if err == nil && !strings.Contains(fmt.Sprint(rep.Facts), "it was wiped or is another cluster") {
			err = fmt.Errorf("facts %v", rep.Facts)
		}
		return err
	})
}
