package connect_test

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// deadWays makes three dead letters of a value, by each way that there is, and
// records that must not wait for them.
func deadWays(t *testing.T, box *connect.Box, original []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := box.Commit(ctx, []byte("behind it"), connect.Record{Value: []byte("committed")}, connect.Dead("why", original, "there")); err != nil {
		t.Fatal(err)
	}
	if err := box.Send(ctx, connect.Record{Topic: "bad topic", Value: original}, connect.Record{Value: []byte("sent")}); err != nil {
		t.Fatal(err)
	}
	box.Dead("why", original, "there")
	if err := box.Spool(connect.Record{Value: []byte("spooled")}); err != nil {
		t.Fatal(err)
	}
}

// A topic of dead letters that takes less than an original gets what it takes
// of it, and nothing waits for that.
func TestDeadLettersAsLargeAsTheirTopicTakes(t *testing.T) {
	b := connecttest.NewBroker(t, site.Topic{Name: "dead-letters.dev", Partitions: 1, Config: map[string]string{"max.message.bytes": "1000"}})
	boxes := make(chan *connect.Box, 1)
	run := connecttest.Start(t, b.Addr, vfs.NewCrashable(1), "", instance(forever(boxes)))
	original := make([]byte, 20_000)
	rand.Read(original) // or compression makes it small
	deadWays(t, <-boxes, original)
	b.Read("dev", 3)
	for _, r := range b.Read("dead-letters.dev", 3) {
		if n := len(r.Value); n == 0 || n >= 1000 || string(r.Value) != string(original[:n]) || header(r, "truncated") != "20000" {
			t.Errorf("a dead letter has %d bytes, headers %v; want the beginning of the original, and how large that was", n, r.Headers)
		}
	}
	if s := run.State("dev"); s.Aside != 0 || s.Dropped != 0 {
		t.Errorf("%d dead letters are refused, %d lost; want none", s.Aside, s.Dropped)
	}
}

// Dead letters that their topic will never take hold up nothing; they are on
// the disk, over a power cut too, and go to the topic that the profile names
// next.
func TestRefusedDeadLettersAreKept(t *testing.T) {
	b, disk := connecttest.NewBroker(t), vfs.NewCrashable(3)
	boxes := make(chan *connect.Box, 1)
	to := func(topic string) connect.Instance {
		return instance(forever(boxes), func(i *connect.Instance) { i.Records.DeadLetter = topic })
	}
	run := connecttest.Start(t, b.Addr, disk, "", to("no topic"))
	deadWays(t, <-boxes, []byte("broken"))
	b.Read("dev", 3)
	connecttest.Until(t, "three are kept", func() bool { return run.State("dev").Aside == 3 })
	after := disk.Crash()
	run.Stop()
	run = connecttest.Start(t, b.Addr, after, "", to("morgue"))
	box := <-boxes
	if diff := cmp.Diff([]string{"broken", "broken", "broken"}, values(b.Read("morgue", 3))); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	connecttest.Until(t, "none is kept any more", func() bool { return run.State("dev").Aside == 0 })
	if at, err := box.Position(t.Context()); string(at) != "behind it" || err != nil {
		t.Errorf("position is %q, %v", at, err)
	}
	if s := run.State("dev"); s.Dropped != 0 {
		t.Errorf("%d records are lost", s.Dropped)
	}
}
