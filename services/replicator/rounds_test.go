package replicator

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Without transactions, what lies behind a refused batch is not there twice:
// it is not sent before the refused one is settled. The lot is of three
// batches, and a new producer's second batch would be taken whatever became
// of its first.
func TestNothingBehindARefusedBatch(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t, kfake.SeedTopics(1, "sensors"))
	noTransactions(dst)
	produce(t, dst.ListenAddrs(), &kgo.Record{Topic: "sensors", Value: []byte("an old one")})
	dst.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		resp := refusing(r.(*kmsg.ProduceRequest), "poison")
		return resp, nil, resp != nil
	})
	want := []string{"an old one"}
	var rs []*kgo.Record
	for n := range 300 {
		word := fmt.Sprint("record ", n)
		if n == 0 || n == 150 {
			word = fmt.Sprint("poison ", n)
		} else {
			want = append(want, word)
		}
		rs = append(rs, &kgo.Record{Topic: "sensors", Key: []byte(word), Value: bytes.Repeat([]byte("x"), 10_000)})
	}
	produce(t, src.ListenAddrs(), rs...)
	cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
	cfg.Links[0].Compression = "none" // the stand-in looks into batches
	r, stop := startWith(t, cfg, func(l *link) { l.lotSize = lotMax })
	eventually(t, "all is carried or put aside", func() bool { return carriedTo(r) == 300 })
	stop()
	var got []string
	for _, rec := range values2(t, dst.ListenAddrs(), "sensors") {
		got = append(got, string(rec.Key)+string(bytes.Trim(rec.Value, "x")))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("carried (-want +got):\n%s", diff)
	}
	if n := resent(r); n != 0 {
		t.Errorf("%d records are told as sent again", n)
	}
}

// TestRounds: records of several topics, or lanes, that go to one partition of
// the destination share its batch; those of a topic that the producer does not
// know yet wait for the first of them.
func TestRounds(t *testing.T) {
	a, b := &partition{}, &partition{}
	record := func(p *partition, topic string, num int32, size int) out {
		return out{p, 0, &kgo.Record{Topic: topic, Partition: num, Value: make([]byte, size)}}
	}
	const most = roundMax * 2 / 3
	for _, tt := range []struct {
		name string
		outs []out
		want []int // records of each round
	}{
		{"of two to one", []out{record(a, "known", 0, most), record(b, "known", 0, most), record(a, "known", 0, 9)}, []int{1, 2}},
		{"of two to two", []out{record(a, "known", 0, most), record(b, "known", 1, most), record(b, "known", 1, most)}, []int{2, 1}},
		{"of two to a new one", []out{record(a, "new", 0, 1), record(b, "new", 0, 1), record(a, "new", 0, 1)}, []int{1, 2}},
		{"none", nil, nil},
	} {
		l := &link{}
		l.ledger.met = map[string]bool{"known": true}
		var got []int
		for _, round := range l.rounds(tt.outs) {
			got = append(got, len(round))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
