package replicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// doubtfulLink is a link to a destination of which partition 0 is empty, in 1
// somebody else has a transaction open, in 2 the link has, as after Kafka forgot
// it, and 3 does not answer. There is none with number 7.
func doubtfulLink(t *testing.T) (*kfake.Cluster, *link) {
	t.Helper()
	dst := cluster(t, kfake.SeedTopics(5, "sensors"))
	l := newTestLink(t, dst)
	if err := l.ledger.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for num, cl := range map[int32]*kgo.Client{1: client(t, dst.ListenAddrs(), kgo.TransactionalID("other")), 2: l.dst} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		var failed error
		cl.Produce(t.Context(), &kgo.Record{Topic: "sensors", Partition: num}, func(_ *kgo.Record, err error) { failed = err })
		if err := errors.Join(cl.Flush(t.Context()), failed); err != nil {
			t.Fatal(err)
		}
	}
	dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "sensors", Partitions: []int32{3}, Err: kerr.NotLeaderForPartition, Count: -1})
	for _, num := range []int32{0, 1, 2, 3, 7} {
		l.ledger.doubt[destKey{"sensors", num}] = true
	}
	return dst, l
}

// What a leader has answered for is in doubt no more, but for what is ours and
// undecided; somebody else's transaction is left alone.
func TestExamine(t *testing.T) {
	t.Parallel()
	_, l := doubtfulLink(t)
	hidden, err := l.ledger.examine(t.Context())
	if diff := cmp.Diff(map[destKey]int64{{"sensors", 2}: 0}, hidden, cmp.AllowUnexported(destKey{})); diff != "" || err != nil {
		t.Errorf("hidden (-want +got), %v:\n%s", err, diff)
	}
	want := map[destKey]bool{{"sensors", 2}: true, {"sensors", 3}: true}
	if diff := cmp.Diff(want, l.ledger.doubt, cmp.AllowUnexported(destKey{})); diff != "" {
		t.Errorf("in doubt (-want +got):\n%s", diff)
	}
}

// A destination that does not say who has transactions open holds nothing up.
func TestExamineWithoutTheRight(t *testing.T) {
	t.Parallel()
	dst, l := doubtfulLink(t)
	dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeProducers}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	hidden, err := l.ledger.examine(t.Context())
	if err != nil || len(hidden) != 0 || !maps.Equal(l.ledger.doubt, map[destKey]bool{{"sensors", 3}: true}) {
		t.Errorf("hidden %v, in doubt %v, %v", hidden, l.ledger.doubt, err)
	}
}

// What positions know of becomes committed, in one transaction; what they do
// not is given up in the next. Other sources' positions say nothing of it.
func TestFate(t *testing.T) {
	d := ledger{l: &link{source: "c"}, known: map[string]remembered{
		"c/a/0/sensors":        {position: position{dest: 4}},
		"c/a/0/sensors/newest": {position: position{dest: 9}},
		"c/a/1/sensors":        {position: position{dest: 9}},
		"d/a/1/sensors":        {position: position{dest: 20}}, // of another box, which was given the same name
	}}
	known, other, none := destKey{"sensors", 0}, destKey{"sensors", 1}, destKey{"sensors", 2}
	for _, step := range []struct {
		hidden map[destKey]int64
		want   undecided
	}{
		{map[destKey]int64{known: 8, other: 9, none: 0}, undecided{map[destKey]bool{known: true}, true}},
		{map[destKey]int64{other: 9, none: 0}, undecided{map[destKey]bool{other: true, none: true}, false}},
	} {
		if got := d.fate(step.hidden); got.commit != step.want.commit || !maps.Equal(got.parts, step.want.parts) {
			t.Errorf("fate of %v = %v, want %v", step.hidden, *got, step.want)
		}
	}
}

// A lost connection puts in doubt what transactions had shortly before; nothing
// is sent there, nor anywhere while the log of positions is in doubt, and what
// turns out to be hidden wants a new producer.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	_, l := doubtfulLink(t)
	d := &l.ledger
	clear(d.doubt)
	l.opened = true
	touched := func(num int32, at time.Time) {
		k := destKey{"sensors", num}
		d.touched[k] = touch{at, d.epoch(k)}
	}
	doubts := func(num int32) bool { return d.doubts(&partition{key: key{num: num}, to: "sensors"}) }
	d.looked = time.Now()
	touched(2, time.Now().Add(-2*doubtful))
	touched(0, time.Now())
	touched(3, time.Now())
	d.cut.cut = true
	if !d.settled(t.Context()) || !l.opened || doubts(0) || doubts(2) || !doubts(3) {
		t.Fatalf("in doubt: %v", d.doubt)
	}
	own := destKey{l.positionLog(), 0}
	d.doubt[own] = true // it is not time to ask again
	d.askAt = time.Now().Add(time.Hour)
	if d.settled(t.Context()) {
		t.Error("a transaction would have positions that are in doubt")
	}
	d.askAt = time.Time{}
	touched(2, time.Now())
	d.cut.cut = true
	if d.settled(t.Context()) || l.opened || d.doubt[own] {
		t.Errorf("goes on with records that are hidden; opened %v, in doubt %v", l.opened, d.doubt)
	}
}

// Long after the signs were looked at last, as in a long pause or on a slow
// uplink, what was touched since is in doubt, however long ago that is.
func TestLostConnectionSeenLate(t *testing.T) {
	t.Parallel()
	_, l := doubtfulLink(t)
	d := &l.ledger
	clear(d.doubt)
	k := destKey{"sensors", 3}
	d.touched[k] = touch{time.Now().Add(-time.Hour), d.epoch(k)}
	d.looked = time.Now().Add(-time.Hour)
	d.cut.cut = true
	if d.settled(t.Context()); !d.doubt[k] {
		t.Error("a connection was lost since the transaction, and its partition is not in doubt")
	}
}

// A partition that had no leader for a moment has another leader epoch, although no
// connection was lost: it is in doubt, and no other is.
func TestLeaderEpochPutsInDoubt(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(2, "sensors")), cluster(t, kfake.SeedTopics(2, "sensors"))
	r, _ := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	write(t, client(t, src.ListenAddrs()), "sensors", 2, 0, 4)
	read(t, dst.ListenAddrs(), "sensors", 4)
	l := r.links[0]
	for num := range int32(2) {
		eventually(t, "the commit is noted", func() (noted bool) {
			inLoop(t, l, func() { _, noted = l.ledger.touched[destKey{"sensors", num}] })
			return noted
		})
	}
	asked := make(chan int32, 100)
	dst.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		for _, topic := range req.(*kmsg.ListOffsetsRequest).Topics {
			for _, p := range topic.Partitions {
				if p.Timestamp == -1 && req.(*kmsg.ListOffsetsRequest).IsolationLevel == 0 { // no reader asks so
					asked <- p.Partition
				}
			}
		}
		return nil, nil, false
	})
	if err := dst.MoveTopicPartition("sensors", 1, 0); err != nil {
		t.Fatal(err)
	}
	inLoop(t, l, func() { l.dst.ForceMetadataRefresh() }) // as it does by itself every few minutes
	select {
	case num := <-asked:
		if num != 1 {
			t.Errorf("partition %d is looked at, which had the same leader all the time", num)
		}
	case <-time.After(time.Minute):
		t.Fatal("nobody looks at the partition that had another leader")
	}
	write(t, client(t, src.ListenAddrs()), "sensors", 2, 4, 6)
	if again := check(t, read(t, dst.ListenAddrs(), "sensors", 6), 2, 6); again != 0 {
		t.Errorf("%d records twice", again)
	}
}

// inLoop does something where nothing else of the link runs.
func inLoop(t *testing.T, l *link, do func()) {
	t.Helper()
	c := command{done: make(chan error, 1), do: func(context.Context) error { do(); return nil }}
	l.commands <- c
	<-c.done
}

// A partition whose leader does not answer for days says so, and what waits
// for it does not fill the queue of the others; it goes on when it is answered for.
func TestDoubtHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	const size = 1_000_000
	const large = aheadBytes/size + 2 // records of that size, more than a lane queues
	src, dst := cluster(t, kfake.SeedTopics(2, "sensors")), cluster(t, kfake.SeedTopics(2, "sensors"))
	cl := client(t, src.ListenAddrs(), kgo.ProducerBatchMaxBytes(2<<20))
	r, _ := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	write(t, cl, "sensors", 2, 0, 4)
	read(t, dst.ListenAddrs(), "sensors", 4)
	end := func(r kmsg.Request) bool { return r.(*kmsg.ListOffsetsRequest).Topics[0].Partitions[0].Timestamp == -1 } // our reader asks for the start
	silent := dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "sensors", Partitions: []int32{1}, Err: kerr.NotLeaderForPartition, Count: -1, When: end})
	l := r.links[0]
	part := func(do func(p *partition)) {
		t.Helper()
		inLoop(t, l, func() { do(l.parts[key{l.lanes[0], "sensors", 1}]) })
	}
	part(func(p *partition) { l.ledger.doubt[destKey{p.to, p.num}] = true })
	for n := range large {
		v := fmt.Append(bytes.Repeat([]byte{'0'}, size), 2*n+5)
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "sensors", Partition: 1, Value: v}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the partition is stopped, or fills the queue", func() (held bool) {
		part(func(p *partition) { held = !p.active || p.lane.bytes >= p.lane.ahead })
		return held
	})
	write(t, cl, "sensors", 1, 4, 5)
	if got := read(t, dst.ListenAddrs(), "sensors", 5)[0]; !slices.Equal(got, []int{0, 2, 4}) {
		t.Errorf("partition 0 holds %v, want 0 2 4", got)
	}
	eventually(t, "the status says why", func() bool { return strings.Contains(linkOf(r).Error, "leader") })
	silent.Remove()
	if got := read(t, dst.ListenAddrs(), "sensors", 5+large)[1]; len(got) != 2+large || !slices.IsSorted(got) {
		t.Errorf("partition 1 holds %v, want 1, 3 and %d more", got, large)
	}
}

// Positions behind what is not carried are kept although some partition is in
// doubt, but not while their log is.
func TestPositionsAreKeptInDoubt(t *testing.T) {
	t.Parallel()
	_, l := doubtfulLink(t)
	if err := l.ledger.start(t.Context()); err != nil { // ends what doubtfulLink has left open
		t.Fatal(err)
	}
	p := &partition{key: key{l.lanes[0], "sensors", 0}, to: "sensors", position: position{next: 5, epoch: -1, dest: -1}, saved: unknown, active: true}
	l.parts[p.key], l.opened = p, true
	own := destKey{l.positionLog(), 0}
	l.ledger.doubt = map[destKey]bool{{"sensors", 3}: true, own: true}
	if l.ledger.save(t.Context(), true); p.saved != unknown {
		t.Errorf("position %+v is saved in a log that is in doubt", p.saved)
	}
	delete(l.ledger.doubt, own)
	if l.ledger.save(t.Context(), true); p.saved != p.position {
		t.Errorf("saved is %+v, want %+v", p.saved, p.position)
	}
}
