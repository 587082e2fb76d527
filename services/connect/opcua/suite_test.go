package opcua

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

func (o *onPLC) profile(more string) string {
	return fmt.Sprintf("name: dev\nendpoint: opc.tcp://%s\ninterval: 10ms\n%spoints:\n  - {name: value, node: %q}\n", o.Addr, more, o.node)
}

func TestSuite(t *testing.T) {
	connecttest.Run(t, connecttest.Case{
		// What the server has not published when a session ends is lost.
		Protocol: "opcua", Polled: true, Readings: true,
		New: func(t *testing.T, _ string) (string, connecttest.Device) {
			o := newOnPLC(t)
			return o.profile(""), o
		},
		Make: func(p *site.Profile) (connect.Connector, error) { return New(p.Connect.OPCUA[0]) },
	})
}

// begin runs a connector of the server until it is up.
func (o *onPLC) begin(t *testing.T, b *connecttest.Broker, secrets string, change ...func(*site.OPCUA)) *connecttest.Running {
	t.Helper()
	o.Start()
	p, err := site.Parse("test", []byte("version: 1\nsite: box\nconnect:\n  opcua:\n    -\n      "+strings.ReplaceAll(o.profile(""), "\n", "\n      ")))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(&p.Connect.OPCUA[0])
	}
	c, err := New(p.Connect.OPCUA[0])
	if err != nil {
		t.Fatal(err)
	}
	return connecttest.Start(t, b.Addr, nil, secrets, connect.NewInstance(p.Connect.Instances()[0], c))
}

func values(rs []*kgo.Record) (all []int64) {
	for _, r := range rs {
		var v struct {
			Point string
			Value json.Number
		}
		if n := json.Unmarshal(r.Value, &v); n == nil && v.Point == "value" {
			i, _ := v.Value.Int64()
			all = append(all, i)
		}
	}
	return all
}

// What the server queues while the connection is lost comes afterwards, by the
// session that was left or by one that the subscription is transferred to; and
// what was under way when it was lost is published again.
func TestSubscriptionIsTakenUpAgain(t *testing.T) {
	for _, way := range []string{"session", "transfer"} {
		t.Run(way, func(t *testing.T) {
			b, o := connecttest.NewBroker(t), newOnPLC(t)
			run := o.begin(t, b, "")
			connecttest.Until(t, "it is up", func() bool { return run.State("dev").State == connect.Running })
			b.Read("dev", 1)
			for round := range int64(3) {
				o.Hold(true)
				o.Emit(10*round + 1) // published, and not heard
				o.plc.published(t, o.node)
				o.Cut()
				o.Hold(false)
				if way == "transfer" {
					o.plc.endSessions(t, o.node)
				}
				o.Emit(10*round + 2)
				o.Emit(10*round + 3)
				o.Plug()
				connecttest.Until(t, "it is lost and up again", func() bool {
					s := run.State("dev")
					return s.Restarts >= round+1 && s.State == connect.Running
				})
				b.Read("dev", int(1+3*(round+1)))
			}
			if diff := cmp.Diff([]int64{-1, 1, 2, 3, 11, 12, 13, 21, 22, 23}, values(b.Read("dev", 10))); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
			if strings.Contains(run.Log.String(), "has forgotten") {
				t.Error("the subscription was made anew")
			}
		})
	}
}

// A server that has lost the subscription is subscribed to again.
func TestSubscriptionIsForgotten(t *testing.T) {
	b, o := connecttest.NewBroker(t), newOnPLC(t)
	run := o.begin(t, b, "")
	b.Read("dev", 1)
	o.Cut()
	o.plc.forget(o.node)
	o.Emit(1)
	o.Plug()
	b.Read("dev", 2)
	o.Emit(2)
	if diff := cmp.Diff([]int64{-1, 1, 2}, values(b.Read("dev", 3))); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if !strings.Contains(run.Log.String(), "has forgotten") {
		t.Error("nobody was told that values may be lost")
	}
}

// A reading that can never be a record is a dead letter, and the session goes
// on.
func TestReadingTooLarge(t *testing.T) {
	b, o := connecttest.NewBroker(t), newOnPLC(t)
	big := freeNode()
	o.plc.set(big, int64(7))
	run := o.begin(t, b, "", func(c *site.OPCUA) {
		p := c.Points[0]
		p.Name, p.Node, p.Unit = "big", big, strings.Repeat("x", 1<<20)
		c.Points = append(c.Points, p)
	})
	b.Read("dead-letters.dev", 1)
	connecttest.Until(t, "it is told", func() bool { return run.State("dev").Error != "" })
	o.Emit(1)
	if diff := cmp.Diff([]int64{-1, 1}, values(b.Read("dev", 2))); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	connecttest.Until(t, "all is well again", func() bool { return run.State("dev").State == connect.Running && run.State("dev").Error == "" })
	if n := run.State("dev").Restarts; n != 0 {
		t.Errorf("the session was ended %d times", n)
	}
}

// published waits until a value of the node is on its way.
func (p *plc) published(t *testing.T, node string) {
	t.Helper()
	connecttest.Until(t, "the value is published", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, s := range p.subs {
			for _, i := range s.items {
				if i.node == node && len(i.queue) > 0 {
					return false
				}
			}
		}
		return true
	})
}

// A password goes to nobody who was not compared with a trust list, unless the
// profile says so.
func TestPasswordNeedsTrust(t *testing.T) {
	b, o := connecttest.NewBroker(t), newOnPLC(t)
	// No file: that it is asked for is a fault of its own.
	run := o.begin(t, b, t.TempDir(), func(c *site.OPCUA) { c.User, c.Password = "u", "password" })
	connecttest.Until(t, "it is refused", func() bool { return strings.Contains(run.State("dev").Error, "the password is not sent") })
	run.Stop()
	run = o.begin(t, b, t.TempDir(), func(c *site.OPCUA) { c.User, c.Password, c.InsecurePassword = "u", "password", true })
	connecttest.Until(t, "the password is read", func() bool { return strings.Contains(run.State("dev").Error, "no such file") })
}
