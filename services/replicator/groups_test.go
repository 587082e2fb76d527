package replicator

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/replicator/rule"
)

func commitAt(t *testing.T, addrs []string, group, topic string, at int64) {
	t.Helper()
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: topic, At: at, LeaderEpoch: -1})
	if err := kadm.NewClient(client(t, addrs)).CommitAllOffsets(t.Context(), group, os); err != nil {
		t.Fatal(err)
	}
}

// committed waits until a group has an offset for partition 0 of a topic that is right.
func committed(t *testing.T, addrs []string, group, topic string, right func(int64) bool) (at int64) {
	t.Helper()
	adm := kadm.NewClient(client(t, addrs))
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got, _ := adm.FetchOffsets(t.Context(), group)
		at = -1
		if o, ok := got.Lookup(topic, 0); ok {
			at = o.At
		}
		if right(at) {
			return at
		}
	}
	t.Fatalf("group %s is at %d of %s", group, at, topic)
	return -1
}

// A group that stops on the box goes on at the centre with the record after;
// neither an offset that is further there, nor a group with members there is
// moved; what is in the map outlives a restart.
func TestGroupsGoOnAtTheCentre(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	here, there := src.ListenAddrs(), dst.ListenAddrs()
	cfg := config(here, there...)
	cfg.Links[0].Prefix = "shop."
	cfg.Links[0].Groups = []string{"till*"}
	r, stop := start(t, cfg)
	cl := client(t, here)
	for n := range 10 {
		write(t, cl, "sensors", 1, 10*n, 10*n+10)
		values(t, there, "shop.sensors", 10*n+10)
	}
	commitAt(t, here, "other", "sensors", 10)
	commitAt(t, here, "till-1", "sensors", 55)
	at := committed(t, there, "till-1", "shop.sensors", func(at int64) bool { return at > 0 })
	if got := firstFrom(t, there, "shop.sensors", at); got != 55 {
		t.Errorf("the group goes on with record %d, want 55", got)
	}
	var all []Translation
	if code := ask(t, r, http.MethodGet, "/links/hq/offsets?topic=sensors&partition=0&offset=55", &all); code != http.StatusOK || len(all) != 1 || all[0].Dest != at || !all[0].Exact {
		t.Errorf("answer %d, %+v, want %d", code, all, at)
	}
	if code := ask(t, r, http.MethodGet, "/links/hq/offsets?topic=sensors&partition=0&offset=x", &all); code != http.StatusBadRequest {
		t.Errorf("a bad offset is answered %d", code)
	}

	commitAt(t, there, "till-1", "shop.sensors", 100)
	commitAt(t, here, "till-1", "sensors", 66)
	hasState(t, r, "till-1", groupAhead)
	committed(t, there, "till-1", "shop.sensors", func(at int64) bool { return at == 100 })

	stop()
	r, _ = start(t, cfg)
	commitAt(t, here, "till-2", "sensors", 45)
	at = committed(t, there, "till-2", "shop.sensors", func(at int64) bool { return at > 0 })
	if got := firstFrom(t, there, "shop.sensors", at); got != 45 {
		t.Errorf("after a restart, the group goes on with record %d, want 45", got)
	}

	member := client(t, there, kgo.ConsumerGroup("till-2"), kgo.ConsumeTopics("shop.sensors"), kgo.DisableAutoCommit())
	if fs := member.PollFetches(t.Context()); fs.Err() != nil {
		t.Fatal(fs.Err())
	}
	commitAt(t, here, "till-2", "sensors", 77)
	hasState(t, r, "till-2", groupActive)
	if now := committed(t, there, "till-2", "shop.sensors", func(int64) bool { return true }); now != at {
		t.Errorf("a group with members was moved from %d to %d", at, now)
	}
	if _, err := kadm.NewClient(client(t, there)).FetchOffsets(t.Context(), "other"); err == nil {
		committed(t, there, "other", "shop.sensors", func(at int64) bool { return at == -1 })
	}
}

// Tools make groups with names by chance: those that are gone are forgotten.
func TestGroupsThatAreGone(t *testing.T) {
	k := key{&lane{rule: &rule.Rule{}}, "sensors", 0}
	l := &link{parts: map[key]*partition{k: {key: k}}, groups: map[groupKey]groupState{{"console-1", k}: {}, {"console-2", k}: {}}}
	l.movedGroups(kadm.FetchOffsetsResponses{"console-2": {}})
	if _, ok := l.groups[groupKey{"console-2", k}]; !ok || len(l.groups) != 1 {
		t.Errorf("remembered are %v", l.groups)
	}
}

// firstFrom is the record that a reader of partition 0 sees first from an offset on.
func firstFrom(t *testing.T, addrs []string, topic string, at int64) int {
	t.Helper()
	cl := client(t, addrs, kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(at)}}))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	fs := cl.PollRecords(ctx, 1)
	if fs.NumRecords() == 0 {
		t.Fatalf("no record from offset %d on: %v", at, fs.Err())
	}
	n, err := strconv.Atoi(string(fs.Records()[0].Value))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func hasState(t *testing.T, r *Replicator, group, state string) {
	t.Helper()
	var got LinkState
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		ask(t, r, http.MethodGet, "/links/hq", &got)
		if slices.ContainsFunc(got.Groups, func(g GroupOffset) bool { return g.Group == group && g.State == state }) {
			return
		}
	}
	t.Fatalf("groups %+v, want %s %s", got.Groups, group, state)
}
