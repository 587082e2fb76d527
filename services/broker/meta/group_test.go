package meta

import (
	"fmt"
	"reflect"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

func aGroup() Group {
	return Group{
		ID: "g", Type: "consumer", Epoch: 4, TargetEpoch: 3, Assignor: "range", Hash: 1 << 63,
		Regexes: map[string][]string{"a.*": {"a", "ab"}},
		Members: []GroupMember{
			{ID: "one", Order: 0, Topics: []string{"a"}, Epoch: 3, Assigned: []GroupPartition{{Topic: ID{1}, Partitions: []int32{0, 1}, Epochs: []int32{2, 3}}}},
			{ID: "two", Order: 1, Regex: "a.*", Waits: true},
		},
	}
}

func TestGroupChanges(t *testing.T) {
	two := aGroup()
	two.Members = two.Members[1:]
	for name, tt := range map[string]struct {
		changes []Group
		want    []Group
	}{
		"as put":          {[]Group{aGroup()}, []Group{aGroup()}},
		"member changed":  {[]Group{aGroup(), {ID: "g", Type: "consumer", Epoch: 5, Members: []GroupMember{{ID: "two", Order: 1}}}}, []Group{{ID: "g", Type: "consumer", Epoch: 5, Regexes: aGroup().Regexes, Members: []GroupMember{aGroup().Members[0], {ID: "two", Order: 1}}}}},
		"member gone":     {[]Group{aGroup(), {ID: "g", Type: "consumer", Epoch: 4, TargetEpoch: 3, Assignor: "range", Hash: 1 << 63, Gone: []string{"one"}}}, []Group{two}},
		"regexes gone":    {[]Group{aGroup(), {ID: "g", Type: "consumer", Regexes: map[string][]string{}, Gone: []string{"one", "two"}}}, []Group{{ID: "g", Type: "consumer", Regexes: map[string][]string{}}}},
		"begins anew":     {[]Group{aGroup(), {ID: "g", Type: "classic", Fresh: true}}, []Group{{ID: "g", Type: "classic"}}},
		"dropped":         {[]Group{aGroup(), {ID: "g", Dropped: true}}, nil},
		"dropped, begun":  {[]Group{aGroup(), {ID: "g", Dropped: true}, {ID: "g", Type: "classic", Epoch: 1}}, []Group{{ID: "g", Type: "classic", Epoch: 1}}},
		"dropped, unkept": {[]Group{{ID: "g", Dropped: true}}, nil},
	} {
		s, merged := newState(), newState()
		all := tt.changes[0]
		for i, c := range tt.changes {
			must(t, s.Apply(encode(kindGroup, c)))
			if i > 0 {
				all = all.Then(c)
			}
		}
		must(t, merged.Apply(encode(kindGroup, aGroup())))
		all.Fresh = all.Fresh || !all.Dropped && len(tt.changes) == 1
		must(t, merged.Apply(encode(kindGroup, all)))
		for how, s := range map[string]*state{"one by one": s, "merged": merged} {
			if diff := gocmp.Diff(tt.want, (&Store{s: s}).GroupStates()); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", name, how, diff)
			}
		}
	}
}

func TestGroupsSurvivePowerCut(t *testing.T) {
	for seed := range uint64(20) {
		fsys := vfs.NewCrashable(seed)
		st := open(t, fsys)
		must(t, st.PutGroup(aGroup()))
		must(t, st.PutGroup(Group{ID: "gone", Type: "classic"}))
		must(t, st.Commit("gone", []Offset{{Topic: "t", Offset: 1}}))
		must(t, st.DeleteGroup("gone"))
		again := open(t, fsys.Crash())
		if diff := gocmp.Diff([]Group{aGroup()}, again.GroupStates()); diff != "" {
			t.Fatalf("seed %d (-put +kept):\n%s", seed, diff)
		}
		must(t, again.Close())
	}
}

// TestGroupSnapshot: a group with members beyond what one change holds.
func TestGroupSnapshot(t *testing.T) {
	a, b := newState(), newState()
	g := Group{ID: "big", Type: "classic", Epoch: 7}
	for i := range 5 {
		g.Members = append(g.Members, GroupMember{ID: fmt.Sprint("m", i), Order: int64(i), Assignment: make([]byte, 700<<10)})
	}
	must(t, a.Apply(encode(kindGroup, g)))
	must(t, a.Apply(encode(kindGroup, aGroup())))
	must(t, a.Snapshot(func(p []byte) {
		if len(p) > frame.MaxPayload/4 {
			t.Errorf("a change of %d bytes in the snapshot", len(p))
		}
		must(t, b.Apply(p))
	}))
	if !reflect.DeepEqual((&Store{s: a}).GroupStates(), (&Store{s: b}).GroupStates()) {
		t.Error("groups of the rebuilt state differ")
	}
}

// TestOffsetsAreCounted whichever way they come and go.
func TestOffsetsAreCounted(t *testing.T) {
	s := newState()
	apply := func(k kind, v any) { must(t, s.Apply(encode(k, v))) }
	apply(kindTopic, Topic{Name: "t", ID: ID{1}, Partitions: 1})
	o := Offset{Topic: "t", Offset: 1, Metadata: "long"}
	apply(kindOffsets, commit{Group: "g", Offsets: []Offset{o}})
	want := o.weight()
	o.Offset++
	apply(kindOffsets, commit{Group: "g", Offsets: []Offset{o}})
	if s.offsetBytes != want {
		t.Errorf("after a second commit: %d, want %d", s.offsetBytes, want)
	}
	apply(kindOffsets, commit{Group: "g", Deleted: []Offset{{Topic: "t"}, {Topic: "u"}}})
	if s.offsetBytes != 0 {
		t.Errorf("after taking back: %d", s.offsetBytes)
	}
	apply(kindOffsets, commit{Group: "g", Offsets: []Offset{o}})
	apply(kindOffsets, commit{Group: "h", Offsets: []Offset{o, {Topic: "u"}}})
	apply(kindDeleteTopic, topicRef{ID{1}})
	apply(kindDeleteGroup, "h")
	if s.offsetBytes != 0 {
		t.Errorf("after deletions: %d", s.offsetBytes)
	}
}
