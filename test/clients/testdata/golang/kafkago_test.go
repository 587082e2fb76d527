package clients

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

func kafkagoTopic(t *testing.T, partitions int) string {
	t.Helper()
	cl := &kafka.Client{Addr: kafka.TCP(addr(t))}
	topic := topicOf(t)
	res, err := cl.CreateTopics(within(t), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}}})
	must(t, err)
	must(t, res.Errors[topic])
	return topic
}

func kafkagoWrite(t *testing.T, w *kafka.Writer, values []string) {
	t.Helper()
	var msgs []kafka.Message
	for _, v := range values {
		msgs = append(msgs, kafka.Message{Key: []byte(v), Value: []byte(v), Headers: []kafka.Header{{Key: "h", Value: []byte(v)}}})
	}
	must(t, w.WriteMessages(within(t), msgs...))
	must(t, w.Close())
}

func kafkagoWriter(t *testing.T, topic string) *kafka.Writer {
	return &kafka.Writer{Addr: kafka.TCP(addr(t)), Topic: topic, RequiredAcks: kafka.RequireAll, BatchTimeout: 5 * time.Millisecond}
}

func kafkagoRead(t *testing.T, r *kafka.Reader, n int) (got []string) {
	t.Helper()
	for ctx := within(t); len(got) < n; {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			t.Fatalf("%d records came, then %v", len(got), err)
		}
		if string(m.Headers[0].Value) != string(m.Value) {
			t.Errorf("record %s has headers %v", m.Value, m.Headers)
		}
		got = append(got, string(m.Value))
	}
	return got
}

func TestKafkaGoCompression(t *testing.T) {
	for codec := range kafka.Compression(5) { // 0 is none
		t.Run(codec.String(), func(t *testing.T) {
			topic := kafkagoTopic(t, 1)
			w := kafkagoWriter(t, topic)
			w.Compression = codec
			kafkagoWrite(t, w, span(0, 200))
			r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{addr(t)}, Topic: topic, MaxWait: 200 * time.Millisecond})
			defer r.Close()
			if got := kafkagoRead(t, r, 200); !slices.Equal(got, span(0, 200)) {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestKafkaGoGroup(t *testing.T) {
	topic := kafkagoTopic(t, 4)
	conf := kafka.ReaderConfig{
		Brokers: []string{addr(t)}, Topic: topic, GroupID: topic, MaxWait: 200 * time.Millisecond, StartOffset: kafka.FirstOffset,
		HeartbeatInterval: 200 * time.Millisecond,
	}
	for i := range 2 { // the second reader goes on where the first one's commits ended
		kafkagoWrite(t, kafkagoWriter(t, topic), span(100*i, 100*i+100))
		r := kafka.NewReader(conf)
		got := kafkagoRead(t, r, 100)
		slices.Sort(got)
		want := span(100*i, 100*i+100)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("reader %d: got %v", i, got)
		}
		must(t, r.Close())
	}
}

func TestKafkaGoConn(t *testing.T) {
	topic := kafkagoTopic(t, 1)
	conn, err := kafka.DialLeader(within(t), "tcp", addr(t), topic, 0)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(40*time.Second)))
	for _, v := range span(0, 10) {
		_, err := conn.Write([]byte(v))
		must(t, err)
	}
	first, last, err := conn.ReadOffsets()
	must(t, err)
	if first != 0 || last != 10 {
		t.Errorf("got offsets %d to %d, want 0 to 10", first, last)
	}
	_, err = conn.Seek(7, kafka.SeekAbsolute)
	must(t, err)
	for _, want := range span(7, 10) {
		m, err := conn.ReadMessage(1000)
		must(t, err)
		if string(m.Value) != want {
			t.Errorf("got %s, want %s", m.Value, want)
		}
	}
	parts, err := conn.ReadPartitions(topic)
	must(t, err)
	if len(parts) != 1 || parts[0].Leader.ID != 1 {
		t.Errorf("partitions: got %+v", parts)
	}
}

// TestKafkaGoAdmin: the requests of its Client type that a service would use.
func TestKafkaGoAdmin(t *testing.T) {
	topic := kafkagoTopic(t, 1)
	kafkagoWrite(t, kafkagoWriter(t, topic), span(0, 10))
	cl := &kafka.Client{Addr: kafka.TCP(addr(t))}
	offsets, err := cl.ListOffsets(within(t), &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {kafka.FirstOffsetOf(0), kafka.LastOffsetOf(0)}}})
	must(t, err)
	if o := offsets.Topics[topic][0]; o.FirstOffset != 0 || o.LastOffset != 10 || o.Error != nil {
		t.Errorf("offsets: got %+v", o)
	}
	init, err := cl.InitProducerID(within(t), &kafka.InitProducerIDRequest{TransactionalID: topic, TransactionTimeoutMs: 60000})
	must(t, err)
	if init.Error != nil || init.Producer == nil || init.Producer.ProducerID < 0 {
		t.Errorf("producer id: got %+v", init)
	}
	commit, err := cl.OffsetCommit(within(t), &kafka.OffsetCommitRequest{GroupID: topic, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: 0, Offset: 4}}}})
	must(t, err)
	if e := commit.Topics[topic][0].Error; e != nil {
		t.Errorf("commit: %v", e)
	}
	fetched, err := cl.OffsetFetch(within(t), &kafka.OffsetFetchRequest{GroupID: topic, Topics: map[string][]int{topic: {0}}})
	must(t, err)
	if p := fetched.Topics[topic][0]; p.CommittedOffset != 4 {
		t.Errorf("committed: got %+v, want offset 4", p)
	}
	deleted, err := cl.DeleteTopics(within(t), &kafka.DeleteTopicsRequest{Topics: []string{topic, "none"}})
	must(t, err)
	if deleted.Errors[topic] != nil || !errors.Is(deleted.Errors["none"], kafka.UnknownTopicOrPartition) {
		t.Errorf("deletion: got %v", deleted.Errors)
	}
}
