package meta

import (
	"reflect"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

func aShare(group string, part int32) SharePartition {
	return SharePartition{Group: group, Topic: ID{1}, Partition: part, Start: 7, Epoch: 2, Runs: []int64{1, 0, 1, 3, 2, 2}}
}

func TestShareChanges(t *testing.T) {
	moved := aShare("g", 0)
	moved.Start, moved.Runs = 11, nil
	for name, tt := range map[string]struct {
		changes [][]SharePartition
		want    []SharePartition
	}{
		"as put":        {[][]SharePartition{{aShare("g", 1), aShare("g", 0)}}, []SharePartition{aShare("g", 0), aShare("g", 1)}},
		"moved on":      {[][]SharePartition{{aShare("g", 0)}, {moved}}, []SharePartition{moved}},
		"dropped":       {[][]SharePartition{{aShare("g", 0), aShare("g", 1)}, {{Group: "g", Topic: ID{1}, Dropped: true}}}, []SharePartition{aShare("g", 1)}},
		"all dropped":   {[][]SharePartition{{aShare("g", 0)}, {{Group: "g", Topic: ID{1}, Dropped: true}}}, nil},
		"no such topic": {[][]SharePartition{{{Group: "g", Topic: ID{9}}}}, nil},
	} {
		s := newState()
		must(t, s.Apply(encode(kindTopic, Topic{Name: "t", ID: ID{1}, Partitions: 2})))
		for _, c := range tt.changes {
			must(t, s.Apply(encode(kindShares, c)))
		}
		st := &Store{s: s}
		if diff := gocmp.Diff(tt.want, st.Shares("g")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		bytes := int64(0)
		for _, p := range tt.want {
			bytes += p.weight()
		}
		if s.shares.bytes != bytes || st.HasShares("g") != (tt.want != nil) || len(st.ShareGroups()) != min(len(tt.want), 1) {
			t.Errorf("%s: %d bytes, want %d; groups %v", name, s.shares.bytes, bytes, st.ShareGroups())
		}
		must(t, s.Apply(encode(kindDeleteTopic, topicRef{ID{1}})))
		must(t, s.Apply(encode(kindShares, []SharePartition{aShare("g", 0)}))) // was on its way
		if s.shares.bytes != 0 || st.HasShares("g") {
			t.Errorf("%s, topic deleted: %d bytes of %v", name, s.shares.bytes, st.Shares("g"))
		}
	}
}

func TestSharesSurvivePowerCut(t *testing.T) {
	for seed := range uint64(20) {
		fsys := vfs.NewCrashable(seed)
		st := open(t, fsys)
		must(t, st.PutTopic(Topic{Name: "t", ID: ID{1}, Partitions: 2}))
		must(t, st.PutShares([]SharePartition{aShare("g", 0), aShare("h", 1)}))
		again := open(t, fsys.Crash())
		got, ok := again.Share("h", ID{1}, 1)
		if diff := gocmp.Diff(aShare("h", 1), got); diff != "" || !ok {
			t.Fatalf("seed %d (-put +kept):\n%s", seed, diff)
		}
		must(t, again.Close())
	}
}

// TestShareSnapshot: states beyond what one change holds.
func TestShareSnapshot(t *testing.T) {
	a, b := newState(), newState()
	must(t, a.Apply(encode(kindTopic, Topic{Name: "t", ID: ID{1}, Partitions: 100})))
	for part := range int32(100) {
		p := aShare("g", part)
		p.Runs = make([]int64, 9000)
		must(t, a.Apply(encode(kindShares, []SharePartition{p})))
	}
	changes := 0
	must(t, a.Snapshot(func(p []byte) {
		if kind(p[0]) == kindShares {
			changes++
		}
		if len(p) > frame.MaxPayload/4 {
			t.Errorf("a change of %d bytes in the snapshot", len(p))
		}
		must(t, b.Apply(p))
	}))
	if !reflect.DeepEqual(a.shares, b.shares) || changes < 2 {
		t.Errorf("states of the rebuilt state differ, after %d changes", changes)
	}
}
