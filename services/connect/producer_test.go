package connect_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
)

// A record that was refused with its batch is sent alone, by a client that all
// connectors share and that waits for it; the service stops although the broker
// never answers.
func TestStopWhileABrokerHangs(t *testing.T) {
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "dev"))
	if err != nil {
		t.Fatal(err)
	}
	hangs, end := make(chan struct{}), make(chan struct{})
	t.Cleanup(kafka.Close)
	t.Cleanup(func() { close(end) })
	requests := 0
	kafka.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		kafka.KeepControl()
		if requests++; requests == 2 {
			close(hangs)
		}
		if requests > 1 {
			kafka.SleepControl(func() { <-end })
			return nil, nil, false
		}
		req := kreq.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range req.Topics {
			out := kmsg.ProduceResponseTopic{Topic: topic.Topic, TopicID: topic.TopicID}
			for _, p := range topic.Partitions {
				out.Partitions = append(out.Partitions, kmsg.ProduceResponseTopicPartition{Partition: p.Partition, ErrorCode: kerr.MessageTooLarge.Code})
			}
			resp.Topics = append(resp.Topics, out)
		}
		return resp, nil, true
	})
	boxes := make(chan *connect.Box, 1)
	run := connecttest.Start(t, kafka.ListenAddrs()[0], nil, "", instance(forever(boxes)))
	box := <-boxes
	answered := make(chan error, 1)
	box.Post(t.Context(), connect.Record{Value: []byte("x")}, func(err error) { answered <- err })
	<-hangs
	run.Stop() // fails the test if that takes for ever
	if err := <-answered; err == nil {
		t.Error("a record is acknowledged that no broker has taken")
	}
}
