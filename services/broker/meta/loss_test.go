package meta

import (
	"bytes"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

// ruin overwrites every file of the state.
func ruin(t *testing.T, fsys vfs.FS) {
	t.Helper()
	entries, err := fsys.ReadDir("meta")
	must(t, err)
	for _, e := range entries {
		must(t, frame.WriteFile(fsys, "meta/"+e.Name(), bytes.Repeat([]byte("garbage"), 50)))
	}
}

// TestLoss: after a loss nothing is believed that may have been taken back, and
// nothing is given out again; what is set from then on stays.
func TestLoss(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	st := open(t, fsys)
	must(t, st.PutTopic(Topic{Name: "t", ID: ID{1}, Partitions: 1}))
	must(t, st.PutACLs([]ACL{{Type: 2, Name: "t"}}))
	must(t, st.AlterScrams([]Scram{{User: "ann", Mechanism: 1}}))
	must(t, st.PutGroup(aGroup()))
	pid, err := st.NextProducerID()
	must(t, err)
	epoch := st.Epoch()
	if _, lost := st.Loss(); lost {
		t.Fatal("a state that was never damaged has lost something")
	}
	must(t, st.Close())
	ruin(t, fsys)

	st = open(t, fsys)
	first, lost := st.Loss()
	if !lost || !st.Incomplete() {
		t.Fatalf("the loss is not told of: %+v", first)
	}
	must(t, st.Rebuild(Found{Cluster: "cluster", Epoch: 1 << 30, Topics: []Topic{{Name: "t", ID: ID{1}, Partitions: 1}}}))
	if st.Epoch() <= 1<<30 || st.Epoch() <= epoch || st.ClusterID() != "cluster" || len(st.Topics()) != 1 {
		t.Errorf("epoch %d, cluster %s, topics %v", st.Epoch(), st.ClusterID(), st.Topics())
	}
	next, err := st.NextProducerID()
	must(t, err)
	if next < 1<<40 || next == pid {
		t.Errorf("producer id %d after a loss, and %d before", next, pid)
	}
	rule := []ACL{{Type: 2, Name: "new"}}
	must(t, st.PutACLs(rule))
	for range 3 { // from the journal, and from a snapshot
		again, err := OpenSized(fsys.Crash(), "meta", 1)
		must(t, err)
		must(t, again.DeleteGroup("none"))
		if diff := gocmp.Diff(rule, again.ACLs()); diff != "" {
			t.Errorf("rules set after the loss (-want +got):\n%s", diff)
		}
		l, _ := again.Loss()
		if l.ID != first.ID || !l.Rebuilt || again.Incomplete() || len(again.Scrams()) > 0 || len(again.GroupStates()) > 0 {
			t.Errorf("after a restart: %+v, %v, %v", l, again.Scrams(), again.GroupStates())
		}
		if p, err := again.NextProducerID(); err != nil || p <= next {
			t.Errorf("producer id %d after %d (%v)", p, next, err)
		}
		must(t, again.Close())
	}
}

// TestPartOfTheStateLost: what would be wrong to believe is given up although
// it could be read.
func TestPartOfTheStateLost(t *testing.T) {
	s := newState()
	apply := func(k kind, v any) { must(t, s.Apply(encode(k, v))) }
	apply(kindTopic, Topic{Name: "t", ID: ID{1}, Partitions: 1})
	apply(kindOffsets, commit{Group: "g", Offsets: []Offset{{Topic: "t", Offset: 7}}})
	apply(kindPutACLs, []ACL{{Type: 2}})
	apply(kindScrams, []Scram{{User: "ann", Mechanism: 1}})
	apply(kindGroup, aGroup())
	apply(kindTxn, open2(TxnOngoing))
	s.Lost("a snapshot")
	if len(s.acls)+len(s.scram)+len(s.groups)+len(s.txns.of) > 0 {
		t.Errorf("still believed: %v %v %v %v", s.acls, s.scram, s.groups, s.txns.of)
	}
	if len(s.topics) != 1 || len(s.offsets["g"]) != 1 {
		t.Errorf("topics %v and commits %v were to stay", s.topics, s.offsets)
	}
}

// TestLossCarried: an older release, after a fallback, knows nothing of a loss
// and writes it behind all else. What was set meanwhile stays.
func TestLossCarried(t *testing.T) {
	s := newState()
	s.Lost("everything")
	older := newState()
	var carried [][]byte
	must(t, s.Snapshot(func(p []byte) {
		if kind(p[0]) == kindLoss {
			carried = append(carried, bytes.Clone(p))
			return
		}
		must(t, older.Apply(p))
	}))
	must(t, older.Apply(encode(kindPutACLs, []ACL{{Type: 2, Name: "since"}})))
	must(t, older.Apply(encode(kindScrams, []Scram{{User: "ann", Mechanism: 1}})))
	back := newState()
	must(t, older.Snapshot(func(p []byte) { must(t, back.Apply(p)) }))
	for _, p := range carried {
		must(t, back.Apply(p))
	}
	if len(back.acls) != 1 || len(back.scram) != 1 || back.loss == nil || back.loss.ID != s.loss.ID {
		t.Errorf("after the way back: rules %v, users %v, loss %+v", back.acls, back.scram, back.loss)
	}
}

// TestStateGone: a new state beside old records is a loss, and one without any
// is a new broker.
func TestStateGone(t *testing.T) {
	st := open(t, vfs.NewCrashable(1))
	if !st.Incomplete() {
		t.Fatal("a new state does not ask what there is")
	}
	must(t, st.Rebuild(Found{}))
	if l, lost := st.Loss(); lost {
		t.Errorf("a new broker has lost %+v", l)
	}
	must(t, st.Rebuild(Found{Topics: []Topic{{Name: "t", ID: ID{1}, Partitions: 1}}}))
	if _, lost := st.Loss(); !lost || len(st.Topics()) != 1 {
		t.Errorf("lost %v, topics %v", lost, st.Topics())
	}
}
