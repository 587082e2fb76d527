package meta

import (
	"reflect"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

func open2(state TxnState) TxnChange {
	return TxnChange{
		Txn:        Txn{ID: "x", State: state, ProducerID: 5, Epoch: 1, LastEpoch: -1, PrevProducerID: -1, NextProducerID: -1, TimeoutMs: 60},
		Partitions: []TxnPartition{{ID{1}, 0}, {ID{2}, 3}},
		Groups: []TxnOffsets{
			{Group: "g", Offsets: []Offset{{Topic: "a", Partition: 1, Offset: 7}, {Topic: "b", Partition: 2, Offset: 8}}},
			{Group: "h"},
		},
	}
}

// TestTxnSurvivesPowerCut makes every kind of transition and cuts the power.
func TestTxnSurvivesPowerCut(t *testing.T) {
	for seed := range uint64(30) {
		fsys := vfs.NewCrashable(seed)
		st := open(t, fsys)
		must(t, st.PutTxn(open2(TxnOngoing)))
		must(t, st.Commit("g", []Offset{{Topic: "c", Offset: 1}}))
		owed := TxnMarker{TxnPartition{ID{9}, 1}, 4, 2, true}
		paid := TxnMarker{TxnPartition{ID{9}, 2}, 4, 2, false}
		must(t, st.PutTxn(TxnChange{Owed: []TxnMarker{owed, paid}}))
		must(t, st.PutTxn(TxnChange{Paid: []TxnMarker{paid}}))
		must(t, st.PutTxn(TxnChange{Txn: Txn{ID: "gone", State: TxnEmpty}}))
		must(t, st.PutTxn(TxnChange{Txn: Txn{ID: "gone", State: TxnDead}}))
		st = open(t, fsys.Crash())
		want := open2(TxnOngoing)
		if got := st.Txns(); !gocmp.Equal(got, []Txn{want.Txn}) {
			t.Fatalf("seed %d: transactional ids: %+v", seed, got)
		}
		if got := st.TxnPartitions("x"); !gocmp.Equal(got, want.Partitions) {
			t.Fatalf("seed %d: partitions: %v", seed, got)
		}
		if got := st.TxnGroups("x"); !gocmp.Equal(got, want.Groups) {
			t.Fatalf("seed %d: groups: %v", seed, got)
		}
		if got := st.OwedMarkers(); !gocmp.Equal(got, []TxnMarker{owed}) {
			t.Fatalf("seed %d: owed: %v", seed, got)
		}
		if len(st.Offsets("g")) != 1 || !st.PendingOffset("g", "a", 1) || st.PendingOffset("g", "a", 2) {
			t.Fatalf("seed %d: offsets of a transaction that is open: %v", seed, st.Offsets("g"))
		}
	}
}

func TestTxnSnapshotRebuilds(t *testing.T) {
	for _, last := range []TxnState{TxnOngoing, TxnPrepareCommit, TxnCompleteCommit, TxnCompleteAbort, TxnDead} {
		a, b := newState(), newState()
		apply := func(k kind, v any) { must(t, a.Apply(encode(k, v))) }
		apply(kindTxn, open2(TxnOngoing))
		many := TxnChange{Txn: open2(TxnOngoing).Txn, Groups: []TxnOffsets{{Group: "many"}}}
		for i := range int32(txnSnapshotBatch + 3) {
			many.Partitions = append(many.Partitions, TxnPartition{ID{7}, i})
			many.Groups[0].Offsets = append(many.Groups[0].Offsets, Offset{Topic: "m", Partition: i})
			many.Owed = append(many.Owed, TxnMarker{TxnPartition: TxnPartition{ID{8}, i}})
		}
		apply(kindTxn, many)
		apply(kindTxn, TxnChange{Txn: Txn{ID: "x", State: last}})
		must(t, a.Snapshot(func(p []byte) {
			if len(p) > frame.MaxPayload/4 {
				t.Errorf("a change of %d bytes", len(p))
			}
			must(t, b.Apply(p))
		}))
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: state after its own snapshot differs: %+v, want %+v", last, b.txns.of["x"], a.txns.of["x"])
		}
	}
}

// TestTxnOffsetsGiveWay: what is said of a group or topic while offsets wait
// for the end of a transaction is newer than they are.
func TestTxnOffsetsGiveWay(t *testing.T) {
	for name, tt := range map[string]struct {
		k    kind
		v    any
		want []Offset // of group g once the transaction is committed
		part []TxnPartition
	}{
		"nothing":      {kindProducerIDs, 1, open2("").Groups[0].Offsets, open2("").Partitions},
		"commit":       {kindOffsets, commit{Group: "g", Offsets: []Offset{{Topic: "a", Partition: 1, Offset: 99}}}, []Offset{{Topic: "a", Partition: 1, Offset: 99}, {Topic: "b", Partition: 2, Offset: 8}}, open2("").Partitions},
		"delete":       {kindOffsets, commit{Group: "g", Deleted: []Offset{{Topic: "a", Partition: 1}}}, open2("").Groups[0].Offsets[1:], open2("").Partitions},
		"delete group": {kindDeleteGroup, "g", nil, open2("").Partitions},
		"delete topic": {kindDeleteTopic, topicRef{ID{1}}, open2("").Groups[0].Offsets[1:], open2("").Partitions[1:]},
	} {
		s := newState()
		apply := func(k kind, v any) { must(t, s.Apply(encode(k, v))) }
		apply(kindTopic, Topic{Name: "a", ID: ID{1}, Partitions: 2})
		apply(kindTxn, open2(TxnOngoing))
		apply(tt.k, tt.v)
		if got := sortedParts(s.txns.of["x"].parts); !gocmp.Equal(got, tt.part) {
			t.Errorf("%s: partitions %v, want %v", name, got, tt.part)
		}
		apply(kindTxn, TxnChange{Txn: Txn{ID: "x", State: TxnCompleteCommit}})
		if got := sortedOffsets(s.offsets["g"]); !gocmp.Equal(got, tt.want) {
			t.Errorf("%s: offsets %v, want %v", name, got, tt.want)
		}
		var weight int64
		for _, o := range s.offsets["g"] {
			weight += o.weight()
		}
		if s.offsetBytes != weight || s.txns.parts != 0 {
			t.Errorf("%s: offsets are said to weigh %d, want %d; %d partitions in transactions, want 0", name, s.offsetBytes, weight, s.txns.parts)
		}
		if len(s.txns.pending) > 0 {
			t.Errorf("%s: still pending: %v", name, s.txns.pending)
		}
	}
}
