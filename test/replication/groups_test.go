package replication

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/replicator"
	"github.com/waysideos/wayside/test/harness"
)

// TestGroupTakesOver: an application reads on the box and stops; started at
// the centre with the same group it goes on with the next record. While it
// runs there, what is committed on the box does not move it.
func TestGroupTakesOver(t *testing.T) {
	need(t)
	t.Parallel()
	centre := harness.StartKafka(t)
	_, box := startBroker(t, nil)
	harness.CreateTopic(t, box, "sensors", 1)
	link := newService(t, "replicator", "--broker", box, "--site", writeFile(t, "site.yaml", fmt.Sprintf(
		"version: 1\nsite: shop\nlinks: [{name: hq, bootstrap: [%q], topics: [sensors], prefix: shop., groups: [billing]}]\n", centre.HostAddr)))
	link.start()
	var all []string
	add := func(n int) {
		for range n {
			all = append(all, fmt.Sprint(len(all)))
			put(t, box, "sensors", all[len(all)-1])
		}
		holds(t, centre.HostAddr, "shop.sensors", all...)
	}
	add(10)
	add(10)
	take(t, box, "sensors", all[:13], true)
	harness.Eventually(t, time.Minute, "the group stands at the centre", func(ctx context.Context) error {
		got, err := committed(ctx, centre)
		if err == nil && got < 13 {
			err = fmt.Errorf("at %d", got)
		}
		return err
	})
	add(1)
	member := take(t, centre.HostAddr, "shop.sensors", all[13:], false)
	before, err := committed(t.Context(), centre)
	if err != nil {
		t.Fatal(err)
	}
	take(t, box, "sensors", all[13:], true)
	harness.Eventually(t, time.Minute, "the link has tried", func(ctx context.Context) error {
		var l replicator.LinkState
		if err := link.ask(ctx, "/links/hq", &l); err != nil {
			return err
		}
		if len(l.Groups) != 1 || l.Groups[0].Offset != int64(len(all)) || l.Groups[0].State != "active at the destination" {
			return fmt.Errorf("groups %+v", l.Groups)
		}
		return nil
	})
	if now, err := committed(t.Context(), centre); err != nil || now != before {
		t.Errorf("a group with members was moved from %d to %d, %v", before, now, err)
	}
	member.Close()
}

// committed is where the group stands at the centre, -1 if nowhere.
func committed(ctx context.Context, centre *harness.Kafka) (int64, error) {
	cl := centre.Client()
	defer cl.Close()
	got, err := kadm.NewClient(cl).FetchOffsets(ctx, "billing")
	if o, ok := got.Lookup("shop.sensors", 0); ok && err == nil {
		return o.At, o.Err
	}
	return -1, err
}

// take reads exactly these values as a member of the group, in order, and
// commits them if told to, and leaves.
func take(t *testing.T, addr, topic string, want []string, commit bool) *kgo.Client {
	t.Helper()
	cl := harness.Client(t, addr, kgo.ConsumerGroup("billing"), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	var last *kgo.Record
	for len(got) < len(want) && ctx.Err() == nil {
		cl.PollRecords(ctx, len(want)-len(got)).EachRecord(func(r *kgo.Record) { got, last = append(got, string(r.Value)), r })
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("the group reads %v of %s, want %v", got, topic, want)
	}
	if commit {
		if err := cl.CommitRecords(ctx, last); err != nil {
			t.Fatal(err)
		}
		cl.Close()
	}
	return cl
}
