package replication

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/test/harness"
)

// hidden: Kafka ends a transaction without a marker in a partition that has no
// leader then. One of the three brokers, which alone has topic quiet, goes
// after it has acknowledged a record of it, and before the transaction is
// ended: given up the first time, when the replicator goes as well, committed
// the second. Nothing else is written to that partition but what the link
// carries once the broker is back, and readers of committed records have each
// record once.
func hidden(t *testing.T, up uplink, brokers []*harness.Kafka, box string, replicator *service) {
	t.Helper()
	const last = 2 // index of the broker
	createAt(t, brokers[0].HostAddr, "shop.quiet", last+1)
	harness.CreateTopic(t, box, "quiet", 1)
	put(t, box, "quiet", "0")
	holds(t, brokers[0].HostAddr, "shop.quiet", "0")
	want := []string{"0"}
	cl := harness.Client(t, brokers[0].HostAddr, kgo.MetadataMinAge(50*time.Millisecond))
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for _, commit := range []bool{false, true} {
		harness.Eventually(t, 2*time.Minute, "all brokers are in sync", func(ctx context.Context) error { return inSync(ctx, adm, 3) })
		value := fmt.Sprint("commit ", commit)
		want = append(want, value)
		end, err := brokers[last].Count(t.Context(), "shop.quiet")
		if err != nil {
			t.Fatal(err)
		}
		seen := make(chan struct{}, 1)
		up[last].Watch(func(key int16) {
			if key == int16(kmsg.Produce) {
				select {
				case seen <- struct{}{}:
				default:
				}
			}
		})
		up.limit(0, time.Second) // its answer, the positions and the end are each as late
		put(t, box, "quiet", value)
		select {
		case <-seen:
		case <-time.After(time.Minute):
			t.Fatal("nothing is sent to the broker")
		}
		harness.Eventually(t, time.Minute, "the broker has the record", func(ctx context.Context) error {
			n, err := brokers[last].Count(ctx, "shop.quiet")
			if err == nil && n == end {
				err = fmt.Errorf("the log ends at %d", n)
			}
			return err
		})
		brokers[last].Kill()
		up[last].Watch(nil)
		if !commit {
			replicator.end(syscall.SIGKILL)
			replicator.start()
		}
		up.limit(0, 0)
		before := int64(-1)
		harness.Eventually(t, 2*time.Minute, "other partitions are carried", func(ctx context.Context) error {
			n, err := committedEnd(ctx, adm)
			if before < 0 && err == nil { // all partitions have a leader again
				before = n
				put(t, box, "sensors", "0")
			}
			if err == nil && n <= before {
				err = fmt.Errorf("%d records", n)
			}
			return err
		})
		brokers[last].Start()
		holds(t, brokers[0].HostAddr, "shop.quiet", want...)
		if log, _ := os.ReadFile(replicator.log()); !regexp.MustCompile(fmt.Sprint("undecided.* partitions=1 commit=", commit)).Match(log) {
			t.Logf("commit %v: Kafka has left nothing undecided", commit)
		}
	}
}

// createAt makes a topic of one partition on one broker, which is its only
// replica.
func createAt(t *testing.T, addr, topic string, broker int32) {
	t.Helper()
	cl := harness.Client(t, addr)
	defer cl.Close()
	req, one := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic()
	one.Topic, one.NumPartitions, one.ReplicationFactor = topic, -1, -1
	one.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{broker}}}
	value := "1"
	one.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "min.insync.replicas", Value: &value}}
	req.Topics = append(req.Topics, one)
	got, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(got.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}
