package broker_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/vfs"
)

// TestAcknowledgedIsAtTheEnd: who has an acknowledgement of acks=1 finds the
// record before the end of the log, although its sync is still to come, and
// may delete it.
func TestAcknowledgedIsAtTheEnd(t *testing.T) {
	b := start(t, vfs.NewCrashable(1))
	cl := client(t, b, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	for want := range int64(20) {
		produce(t, cl, &kgo.Record{Topic: "t", Value: []byte("v")})
		if got := endOffset(t, cl, "t"); got != want+1 {
			t.Fatalf("after %d records: got end %d", want+1, got)
		}
	}
	produce(t, cl, &kgo.Record{Topic: "t", Value: []byte("v")})
	var at kadm.Offsets
	at.AddOffset("t", 0, 21, -1)
	deleted, err := kadm.NewClient(cl).DeleteRecords(within(t), at)
	must(t, err)
	if got, _ := deleted.Lookup("t", 0); got.Err != nil || got.LowWatermark != 21 {
		t.Errorf("delete before 21: got %+v, want low watermark 21", got)
	}
}
