package replication

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/replicator"
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

// frozen: the same of a broker that stands still for a while, loses its
// partition's leadership so, and comes back: no connection is lost. Of the three
// it is one that keeps neither the link's positions nor its transactions. What
// it has from before is committed, and shows although nothing else is written to
// its partition; other topics have the link learn who leads now.
func frozen(t *testing.T, up uplink, brokers []*harness.Kafka, box string, link *service) {
	t.Helper()
	const topic = "shop.calm"
	cl := harness.Client(t, brokers[0].HostAddr)
	defer cl.Close()
	harness.Eventually(t, 2*time.Minute, "all brokers are in sync", func(ctx context.Context) error { return inSync(ctx, kadm.NewClient(cl), 3) })
	last := spare(t, kadm.NewClient(cl), box)
	other := cl.Broker((last+1)%3 + 1)
	createAt(t, brokers[0].HostAddr, topic, int32(last+1))
	harness.CreateTopic(t, box, "calm", 1)
	put(t, box, "calm", "0")
	holds(t, brokers[0].HostAddr, topic, "0")

	others := append(append(uplink{}, up[:last]...), up[last+1:]...)
	var sent atomic.Int64
	up[last].Watch(func(key int16) {
		if key == int16(kmsg.Produce) && sent.CompareAndSwap(0, up[last].Bytes()) {
			others.each((*harness.Proxy).Stall) // no end of the transaction before there is no leader
		}
	})
	up.limit(0, time.Second)
	put(t, box, "calm", "1")
	harness.Eventually(t, time.Minute, "the broker has acknowledged the record", func(context.Context) error {
		if at := sent.Load(); at == 0 || up[last].Bytes() <= at {
			return errors.New("it has not")
		}
		return nil
	})
	broker, err := os.FindProcess(brokers[last].PID())
	if err == nil {
		err = broker.Signal(syscall.SIGSTOP)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Signal(syscall.SIGCONT)
	up[last].Watch(nil)
	led := func(want bool) {
		t.Helper()
		harness.Eventually(t, time.Minute, fmt.Sprintf("%s has a leader: %v", topic, want), func(ctx context.Context) error {
			req, one := kmsg.NewPtrMetadataRequest(), kmsg.NewMetadataRequestTopic()
			one.Topic = kmsg.StringPtr(topic)
			req.Topics = append(req.Topics, one)
			got, err := req.RequestWith(ctx, other)
			if err == nil && (got.Topics[0].Partitions[0].Leader >= 0) != want {
				err = fmt.Errorf("it is led by %d", got.Topics[0].Partitions[0].Leader)
			}
			return err
		})
	}
	led(false)
	up.limit(0, 0)
	others.each((*harness.Proxy).Heal)
	harness.Eventually(t, time.Minute, "the transaction is committed", func(ctx context.Context) error {
		var l replicator.LinkState
		if err := link.ask(ctx, "/links/hq", &l); err != nil {
			return err
		}
		for _, p := range l.Partitions {
			if p.To == topic && p.Next == 2 {
				return nil
			}
		}
		return errors.New("it is not")
	})
	broker.Signal(syscall.SIGCONT)
	led(true)
	harness.CreateTopic(t, box, "more", 1)
	put(t, box, "more", "0")
	holds(t, brokers[0].HostAddr, "shop.more", "0")
	holds(t, brokers[0].HostAddr, topic, "0", "1")
}

// spare is the index of a broker that neither leads the link's log of positions
// nor coordinates its transactions.
func spare(t *testing.T, adm *kadm.Client, box string) int {
	t.Helper()
	const positions = "wayside-link.shop.hq"
	cl := harness.Client(t, box)
	defer cl.Close()
	source, err1 := kadm.NewClient(cl).BrokerMetadata(t.Context())
	id := positions + "." + source.Cluster
	at := adm.FindTxnCoordinators(t.Context(), id)[id]
	topics, err2 := adm.ListTopicsWithInternal(t.Context(), positions)
	if err := errors.Join(err1, at.Err, err2); err != nil {
		t.Fatal(err)
	}
	for i := range int32(3) {
		if i+1 != at.NodeID && i+1 != topics[positions].Partitions[0].Leader {
			return int(i)
		}
	}
	panic("three brokers, two of them busy")
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
