package meta

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

func open(t *testing.T, fsys vfs.FS) *Store {
	t.Helper()
	st, err := Open(fsys, "meta")
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSurvivesPowerCut makes every kind of change and cuts the power at once.
func TestSurvivesPowerCut(t *testing.T) {
	for seed := range uint64(50) {
		fsys := vfs.NewCrashable(seed)
		st := open(t, fsys)
		a := Topic{Name: "a", ID: NewID(), Partitions: 3, Config: map[string]string{"retention.ms": "5"}}
		b := Topic{Name: "b", ID: NewID(), Partitions: 1}
		must(t, st.PutTopic(a))
		must(t, st.PutTopic(b))
		off := Offset{Topic: "a", Partition: 2, Offset: 41, LeaderEpoch: 1, Metadata: "m", CommitMs: 9}
		must(t, st.Commit("g", []Offset{off, {Topic: "b", Offset: 7}}))
		must(t, st.Commit("gone", []Offset{off}))
		must(t, st.DeleteTopic(b.ID))
		must(t, st.DeleteGroup("gone"))
		pid, err := st.NextProducerID()
		must(t, err)
		cluster := st.ClusterID()

		again := open(t, fsys.Crash())
		if got := again.Topics(); !gocmp.Equal(got, []Topic{a}) {
			t.Fatalf("seed %d: topics: %v", seed, got)
		}
		if got := again.Deleting(); !gocmp.Equal(got, []Topic{b}) {
			t.Fatalf("seed %d: deleting: %v", seed, got)
		}
		if got := again.Offsets("g"); !gocmp.Equal(got, []Offset{off}) {
			t.Fatalf("seed %d: offsets: %v", seed, got)
		}
		if again.HasGroup("gone") || again.ClusterID() != cluster || again.Epoch() <= st.Epoch() {
			t.Fatalf("seed %d: groups %v, cluster %q, epoch %d", seed, again.Groups(), again.ClusterID(), again.Epoch())
		}
		if next, err := again.NextProducerID(); err != nil || next <= pid {
			t.Fatalf("seed %d: producer id %d after %d (%v)", seed, next, pid, err)
		}
		must(t, again.Close())
	}
}

// TestNextEpoch: a start has a higher leader epoch than all before it, and than
// any earlier start from a copy of the same disk where the clock is right.
func TestNextEpoch(t *testing.T) {
	at := time.Unix(epochZero, 0).Add(24 * time.Hour)
	for name, tt := range map[string]struct {
		last   int32
		now    time.Time
		chance int32
		want   int32
	}{
		"first start":                   {0, at, 0, 86_400},
		"by the clock, and some chance": {5, at, 3, 86_403},
		"clock not set":                 {5, time.Unix(0, 0), 0, 6},
		"clock not set, some chance":    {5, time.Unix(0, 0), epochChance - 1, 5 + epochChance},
		"two starts in one second":      {86_400, at, 7, 86_408},
		"clock beyond its time":         {5, time.Unix(1<<40, 0), 3, 6},
		"no more to come":               {math.MaxInt32, at, 3, math.MaxInt32},
	} {
		if got := nextEpoch(tt.last, tt.now, tt.chance); got != tt.want {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
	if original, copied := nextEpoch(5, at, epochChance-1), nextEpoch(3, at.Add(10*time.Minute), 0); copied <= original {
		t.Errorf("an old copy started later has epoch %d, the original %d", copied, original)
	}
}

// TestSnapshotRebuilds holds Snapshot to what Apply knows, later kinds too.
func TestSnapshotRebuilds(t *testing.T) {
	a := newState()
	apply := func(k kind, v any) { must(t, a.Apply(encode(k, v))) }
	apply(kindCluster, "c")
	apply(kindEpoch, 5)
	apply(kindProducerIDs, 3000)
	for i := range 3 {
		apply(kindTopic, Topic{Name: fmt.Sprint("t", i), ID: ID{byte(i)}, Partitions: 1})
	}
	apply(kindDeleteTopic, topicRef{ID{1}})
	for i := range int32(2500) {
		apply(kindOffsets, commit{Group: "g", Offsets: []Offset{{Topic: "t0", Partition: i, Offset: 1}}})
	}
	must(t, a.Apply([]byte{200, 1, 'x'}))
	b := newState()
	must(t, a.Snapshot(func(p []byte) { must(t, b.Apply(p)) }))
	opts := gocmp.Exporter(func(reflect.Type) bool { return true })
	ignore := gocmp.FilterPath(func(p gocmp.Path) bool { return p.Last().String() == ".mu" }, gocmp.Ignore())
	if diff := gocmp.Diff(a, b, opts, ignore); diff != "" {
		t.Errorf("state after its own snapshot (-want +got):\n%s", diff)
	}
}

// TestSnapshotFits: a change that is too long for a frame would make the
// snapshot unreadable, and with it the broker's whole state.
func TestSnapshotFits(t *testing.T) {
	s := newState()
	worst := strings.Repeat("\x00", 4096) // six bytes each in JSON
	for i := range int32(1000) {
		s.commit(commit{Group: "g", Offsets: []Offset{{Topic: strings.Repeat("t", 249), Partition: i, Metadata: worst}}})
	}
	must(t, s.Snapshot(func(p []byte) {
		if len(p) > frame.MaxPayload {
			t.Errorf("a change of %d bytes, at most %d can be read back", len(p), frame.MaxPayload)
		}
	}))
}

func FuzzApply(f *testing.F) {
	f.Add(encode(kindTopic, Topic{Name: "a", Partitions: 1}))
	f.Add(encode(kindOffsets, commit{Group: "g", Offsets: []Offset{{Topic: "a"}}}))
	f.Add(encode(kindDeleteTopic, topicRef{}))
	f.Add(encode(kindGroup, aGroup()))
	f.Add(encode(kindTxn, open2(TxnOngoing)))
	f.Add([]byte{6, 1, 'n', 'u', 'l', 'l'})
	f.Fuzz(func(t *testing.T, p []byte) {
		s := newState()
		if s.Apply(p) != nil {
			return
		}
		again := newState()
		if err := s.Snapshot(func(p []byte) { must(t, again.Apply(p)) }); err != nil {
			t.Fatal(err)
		}
	})
}
