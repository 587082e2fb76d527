package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

const siteProfile = `version: 1
site: well-7
broker:
  topics:
    - {name: sensors, partitions: 3}
    - {name: answers, partitions: 1}
connect:
  mqtt:
    routes: [{filter: shop/+/temperature, topic: sensors}]
links:
  - {name: field, bootstrap: [%[1]q], topics: [sensors, answers], prefix: well-7.}
  - {name: orders, bootstrap: [%[1]q], direction: down, topics: [commands]}
`

const gatewayProfile = `version: 1
site: field
broker:
  listeners: [{name: wells, listen: ":9093", advertised: %[1]q}]
  topics: [{name: commands, partitions: 1}]
links:
  - {name: head-office, bootstrap: [%[2]q], topics: ["well-*"]}
  - {name: orders, bootstrap: [%[2]q], direction: down, topics: [commands]}
`

// tiers are a site and a gateway, both virtual machines whose disks forget
// what was not flushed, and Apache Kafka as the centre.
type tiers struct {
	site, gateway *harness.Box
	centre        *harness.Kafka
	low, high     *harness.Proxy // from the site to the gateway, and on to the centre
}

func startTiers(t *testing.T) tiers {
	t.Helper()
	v := tiers{low: harness.StartProxy(t), high: harness.StartProxy(t)}
	low, high := fromGuest(v.low.Addr), fromGuest(v.high.Addr)
	v.centre = harness.StartKafkaBehind(t, high)
	v.high.Target(v.centre.GuestListen)
	harness.CreateTopic(t, v.centre.HostAddr, "commands", 1)
	boot := func(profile string, more ...qemu.Forward) *harness.Box {
		return harness.Boot(t, harness.Build(t, profile), func(c *qemu.Config) {
			c.Disk, c.FlushDelay = qemu.DiskDropping, time.Millisecond
			c.Forwards = append(c.Forwards, more...)
		})
	}
	v.gateway = boot(fmt.Sprintf(gatewayProfile, low, high), qemu.Forward{Name: "wells", Host: "127.0.0.1:0", Guest: 9093})
	v.low.Target(v.gateway.Addr("wells"))
	v.site = boot(fmt.Sprintf(siteProfile, low))
	v.gateway.WaitReady()
	v.site.WaitReady()
	return v
}

// fromGuest is a port of this host as a guest of QEMU's user network sees it.
func fromGuest(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return net.JoinHostPort(hostFromGuest, port)
}

// TestThreeTiers is the product in one test: what devices say reaches the
// centre through a gateway, and commands come the other way and are answered,
// while both uplinks are away and the power of site and gateway is cut with a
// transaction of each link on its way.
func TestThreeTiers(t *testing.T) {
	harness.NeedVM(t)
	v := startTiers(t)
	publish(t, v.site.Addr("mqtt"), 0, 1)
	v.order(t, "open")
	holds(t, v.centre.HostAddr, central, 1)
	v.obeys(t, "open")

	v.high.Cut()
	publish(t, v.site.Addr("mqtt"), 1, 1+outage) // returns when all are acknowledged
	holds(t, v.gateway.Addr("kafka"), central, 1+outage)
	v.low.Cut()
	publish(t, v.site.Addr("mqtt"), 1+outage, 1+2*outage)
	v.order(t, "shut") // nobody hears it yet
	v.answer(t, "said meanwhile")

	// A transaction of the link up to the gateway is under way when the site's
	// power goes, and one of the link up to the centre when the gateway's does.
	cutAmidst(t, v.site, v.low, v.gateway.Addr("kafka"))
	cutAmidst(t, v.gateway, v.high, v.centre.HostAddr)
	boxes := []*harness.Box{v.site, v.gateway}
	for _, box := range boxes {
		if err := box.VM.PowerOn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, box := range boxes {
		box.WaitReady()
	}

	holds(t, v.centre.HostAddr, central, 1+2*outage)
	checkArrived(t, v.centre, 1+2*outage)
	v.obeys(t, "open", "shut")
	want := []string{"open is done", "said meanwhile", "shut is done"}
	if got := holds(t, v.centre.HostAddr, "well-7.answers", len(want)); !slices.Equal(got, want) {
		t.Errorf("answers at the centre: %q, want %q", got, want)
	}
	v.site.PowerOff()
	v.gateway.PowerOff()
}

// cutAmidst heals an uplink, slowly, and cuts the box's power as soon as a
// transaction is open at the other end. Then the uplink is as good as new.
func cutAmidst(t *testing.T, box *harness.Box, up *harness.Proxy, at string) {
	t.Helper()
	cl := harness.Client(t, at)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	up.Limit(64_000, 300*time.Millisecond)
	up.Heal()
	harness.Eventually(t, 2*time.Minute, "a transaction is open", func(ctx context.Context) error {
		ends, err1 := adm.ListEndOffsets(ctx, central)
		committed, err2 := adm.ListCommittedOffsets(ctx, central)
		open := false
		ends.Each(func(o kadm.ListedOffset) {
			c, ok := committed.Lookup(o.Topic, o.Partition)
			open = open || ok && c.Err == nil && o.Err == nil && c.Offset < o.Offset
		})
		if err := errors.Join(err1, err2); err != nil || open {
			return err
		}
		return errors.New("none is")
	})
	stats, err := box.PowerCutDropping(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the disk forgot: %+v", stats)
	up.Limit(0, 0)
}

// order has the centre give a command.
func (v tiers) order(t *testing.T, command string) {
	t.Helper()
	put(t, v.centre.HostAddr, "commands", command)
}

// answer has a device of the site say something.
func (v tiers) answer(t *testing.T, text string) {
	t.Helper()
	put(t, v.site.Addr("kafka"), "answers", text)
}

// obeys waits until the site has exactly these commands, and answers the last.
func (v tiers) obeys(t *testing.T, commands ...string) {
	t.Helper()
	if got := holds(t, v.site.Addr("kafka"), "commands", len(commands)); !slices.Equal(got, commands) {
		t.Errorf("commands at the site: %q, want %q", got, commands)
	}
	v.answer(t, commands[len(commands)-1]+" is done")
}

func put(t *testing.T, addr, topic, value string) {
	t.Helper()
	cl := harness.Client(t, addr)
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// holds waits until a topic has n committed records, and returns the values of
// all.
func holds(t *testing.T, addr, topic string, n int) (values []string) {
	t.Helper()
	cl := harness.Client(t, addr)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	harness.Eventually(t, 5*time.Minute, fmt.Sprintf("%s has %d records", topic, n), func(ctx context.Context) error {
		have := int64(0)
		ends, err := adm.ListCommittedOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if ends.Each(func(o kadm.ListedOffset) { have += o.Offset }); err != nil || have < int64(n) {
			return fmt.Errorf("up to %d, %v", have, err)
		}
		values = nil
		for _, r := range harness.ReadCommitted(t, addr, topic) {
			values = append(values, string(r.Value))
		}
		if len(values) < n {
			return fmt.Errorf("%d are there", len(values))
		}
		return nil
	})
	return values
}
