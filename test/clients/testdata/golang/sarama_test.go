package clients

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

func saramaConfig(version sarama.KafkaVersion) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = version
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Rebalance.Timeout = 10 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	c.Metadata.Retry.Backoff = 50 * time.Millisecond
	return c
}

func saramaTopic(t *testing.T, partitions int32) string {
	t.Helper()
	adm, err := sarama.NewClusterAdmin([]string{addr(t)}, saramaConfig(sarama.MaxVersion))
	must(t, err)
	defer adm.Close()
	must(t, adm.CreateTopic(topicOf(t), &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
	return topicOf(t)
}

func saramaProduce(t *testing.T, topic string, c *sarama.Config, values []string) {
	t.Helper()
	p, err := sarama.NewSyncProducer([]string{addr(t)}, c)
	must(t, err)
	defer p.Close()
	var msgs []*sarama.ProducerMessage
	for _, v := range values {
		msgs = append(msgs, &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(v), Value: sarama.StringEncoder(v)})
	}
	must(t, p.SendMessages(msgs))
}

// saramaRead reads n records of partition 0.
func saramaRead(t *testing.T, topic string, c *sarama.Config, n int) []string {
	t.Helper()
	cons, err := sarama.NewConsumer([]string{addr(t)}, c)
	must(t, err)
	defer cons.Close()
	pc, err := cons.ConsumePartition(topic, 0, sarama.OffsetOldest)
	must(t, err)
	defer pc.Close()
	var got []string
	for ctx := within(t); len(got) < n; {
		select {
		case m := <-pc.Messages():
			got = append(got, string(m.Value))
		case <-ctx.Done():
			t.Fatalf("%d records came, want %d", len(got), n)
		}
	}
	return got
}

func TestSaramaCompression(t *testing.T) {
	for _, codec := range []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD} {
		t.Run(codec.String(), func(t *testing.T) {
			topic := saramaTopic(t, 1)
			c := saramaConfig(sarama.MaxVersion)
			c.Producer.Compression = codec
			saramaProduce(t, topic, c, span(0, 200))
			if got := saramaRead(t, topic, c, 200); !slices.Equal(got, span(0, 200)) {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestSaramaVersions: Sarama speaks the versions of the Kafka that it is told.
func TestSaramaVersions(t *testing.T) {
	for _, v := range []sarama.KafkaVersion{sarama.V1_0_0_0, sarama.V2_1_0_0, sarama.V2_8_0_0, sarama.V3_6_0_0, sarama.MaxVersion} {
		t.Run(v.String(), func(t *testing.T) {
			topic := saramaTopic(t, 1)
			saramaProduce(t, topic, saramaConfig(v), span(0, 20))
			if got := saramaRead(t, topic, saramaConfig(v), 20); !slices.Equal(got, span(0, 20)) {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestSaramaIdempotent(t *testing.T) {
	topic := saramaTopic(t, 1)
	c := saramaConfig(sarama.MaxVersion)
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	saramaProduce(t, topic, c, span(0, 500))
	if got := saramaRead(t, topic, c, 500); !slices.Equal(got, span(0, 500)) {
		t.Errorf("got %v", got)
	}
}

func TestSaramaTransactions(t *testing.T) {
	topic := saramaTopic(t, 1)
	c := saramaConfig(sarama.MaxVersion)
	c.Producer.Idempotent = true
	c.Producer.Transaction.ID = topic
	c.Net.MaxOpenRequests = 1
	c.Consumer.IsolationLevel = sarama.ReadCommitted
	p, err := sarama.NewSyncProducer([]string{addr(t)}, c)
	must(t, err)
	defer p.Close()
	for i, end := range []func() error{p.CommitTxn, p.AbortTxn, p.CommitTxn} {
		must(t, p.BeginTxn())
		for _, v := range span(10*i, 10*i+10) {
			_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(v)})
			must(t, err)
		}
		must(t, end())
	}
	want := append(span(0, 10), span(20, 30)...)
	if got := saramaRead(t, topic, c, 20); !slices.Equal(got, want) {
		t.Errorf("committed: got %v, want %v", got, want)
	}
}

// saramaMember is a group's member that remembers what it got.
type saramaMember struct {
	mu     *sync.Mutex
	seen   map[string]int
	claims func(int)
}

func (m saramaMember) Setup(s sarama.ConsumerGroupSession) error {
	for _, parts := range s.Claims() {
		m.claims(len(parts))
	}
	return nil
}
func (m saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (m saramaMember) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for msg := range c.Messages() {
		m.mu.Lock()
		m.seen[string(msg.Value)]++
		m.mu.Unlock()
		s.MarkMessage(msg, "")
	}
	return nil
}

func TestSaramaGroup(t *testing.T) {
	for name, strategy := range map[string]sarama.BalanceStrategy{
		"range": sarama.NewBalanceStrategyRange(), "sticky": sarama.NewBalanceStrategySticky(), "roundrobin": sarama.NewBalanceStrategyRoundRobin(),
	} {
		t.Run(name, func(t *testing.T) { saramaGroup(t, strategy) })
	}
}

func saramaGroup(t *testing.T, strategy sarama.BalanceStrategy) {
	topic := saramaTopic(t, 4)
	c := saramaConfig(sarama.MaxVersion)
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen, claims := map[string]int{}, [2]int{}
	for i := range 2 {
		g, err := sarama.NewConsumerGroup([]string{addr(t)}, topic, c)
		must(t, err)
		wg.Go(func() {
			defer g.Close()
			m := saramaMember{&mu, seen, func(n int) { mu.Lock(); claims[i] = n; mu.Unlock() }}
			for ctx.Err() == nil {
				if err := g.Consume(ctx, []string{topic}, m); err != nil && !errors.Is(err, sarama.ErrClosedConsumerGroup) {
					t.Errorf("member %d: %v", i, err)
					return
				}
			}
		})
	}
	saramaWait(t, "each member has two", func() bool { mu.Lock(); defer mu.Unlock(); return claims == [2]int{2, 2} })
	saramaProduce(t, topic, saramaConfig(sarama.MaxVersion), span(0, 200))
	saramaWait(t, "they read all", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 200 })
	cancel()
	wg.Wait()
	adm, err := sarama.NewClusterAdmin([]string{addr(t)}, c)
	must(t, err)
	defer adm.Close()
	offsets, err := adm.ListConsumerGroupOffsets(topic, map[string][]int32{topic: {0, 1, 2, 3}})
	must(t, err)
	sum := int64(0)
	for _, b := range offsets.Blocks[topic] {
		sum += b.Offset
	}
	if sum != 200 {
		t.Errorf("the committed offsets add up to %d, want 200", sum)
	}
}

func saramaWait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, tick := within(t), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("in time this never was: %s", what)
		}
	}
}

func TestSaramaAdmin(t *testing.T) {
	adm, err := sarama.NewClusterAdmin([]string{addr(t)}, saramaConfig(sarama.MaxVersion))
	must(t, err)
	defer adm.Close()
	topic, retention := topicOf(t), "3600000"
	must(t, adm.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &retention}}, false))
	must(t, adm.CreatePartitions(topic, 4, nil, false))
	saramaProduce(t, topic, saramaConfig(sarama.MaxVersion), span(0, 40))
	must(t, adm.DeleteRecords(topic, map[int32]int64{0: 1}))
	retention = "7200000"
	must(t, adm.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &retention}}, false))
	entries, err := adm.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}})
	must(t, err)
	if len(entries) != 1 || entries[0].Value != retention {
		t.Errorf("configuration: got %+v, want retention.ms=%s", entries, retention)
	}
	topics, err := adm.ListTopics()
	must(t, err)
	if got := topics[topic].NumPartitions; got != 4 {
		t.Errorf("got %d partitions, want 4", got)
	}
	dirs, err := adm.DescribeLogDirs([]int32{1})
	must(t, err)
	if len(dirs[1]) != 1 || dirs[1][0].ErrorCode != sarama.ErrNoError {
		t.Errorf("log folders: got %+v", dirs)
	}
	brokers, id, err := adm.DescribeCluster()
	must(t, err)
	if len(brokers) != 1 || id != 1 {
		t.Errorf("cluster: got %d brokers, controller %d", len(brokers), id)
	}
	must(t, adm.DeleteTopic(topic))
	if err := adm.DeleteTopic(topic); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		t.Errorf("second deletion: got %v, want %v", err, sarama.ErrUnknownTopicOrPartition)
	}
}
