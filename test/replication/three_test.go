package replication

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/test/harness"
)

// threeBrokers is Kafka as three brokers, each behind a proxy of its own. All
// is there three times, and two have to agree. What is killed is one broker
// after the other: its partitions get other leaders, the link goes on with
// the two that are left, and then it comes back and catches up.
func threeBrokers(t *testing.T) (uplink, centre, []*harness.Kafka) {
	var up uplink
	var addrs []string
	for range 3 {
		p := harness.StartProxy(t)
		up, addrs = append(up, p), append(addrs, p.Addr)
	}
	all := harness.StartKafkaCluster(t, addrs...)
	var hosts []string
	for i, k := range all {
		up[i].Target(k.GuestListen)
		hosts = append(hosts, k.HostAddr)
	}
	turn := 0
	return up, centre{hosts[0], func() {
		k, num := all[turn%3], turn%3+1
		turn++
		cl, err := kgo.NewClient(kgo.SeedBrokers(hosts...), kgo.MetadataMinAge(50*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		adm := kadm.NewClient(cl)
		harness.Eventually(t, 2*time.Minute, "something is carried", func(ctx context.Context) error { return inSync(ctx, adm, 3) })
		killed := time.Now()
		k.Kill()
		before := int64(-1)
		harness.Eventually(t, 2*time.Minute, "two of three brokers go on", func(ctx context.Context) error {
			n, err := committedEnd(ctx, adm)
			if before < 0 && err == nil { // all partitions have a leader again
				before = n
			}
			if err == nil && n < before+500 {
				err = fmt.Errorf("%d records are committed, %d were", n, before)
			}
			return err
		})
		wentOn := time.Since(killed)
		k.Start()
		harness.Eventually(t, 2*time.Minute, "the third has caught up", func(ctx context.Context) error { return inSync(ctx, adm, 3) })
		t.Logf("broker %d killed: the link went on after %.1f s, all three are in sync after %.1f s", num, wentOn.Seconds(), time.Since(killed).Seconds())
	}}, all
}

// committedEnd sums what readers of committed records see of the topic.
func committedEnd(ctx context.Context, adm *kadm.Client) (n int64, err error) {
	ends, err := adm.ListCommittedOffsets(ctx, "shop.sensors")
	if err == nil {
		err = ends.Error()
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n, err
}

// inSync is nil when every partition, Kafka's own included, has so many
// replicas in sync, or all if it has fewer, and the link has made its topics.
func inSync(ctx context.Context, adm *kadm.Client, want int) error {
	topics, err := adm.ListTopicsWithInternal(ctx)
	if err != nil {
		return err
	}
	for _, topic := range []string{"shop.sensors", "__transaction_state"} {
		if !topics.Has(topic) {
			return fmt.Errorf("there is no topic %s", topic)
		}
	}
	topics.EachPartition(func(p kadm.PartitionDetail) {
		if len(p.ISR) < min(want, len(p.Replicas)) && err == nil {
			err = fmt.Errorf("%s/%d: %d replicas are in sync", p.Topic, p.Partition, len(p.ISR))
		}
	})
	return err
}
