package harness

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
)

// TestKafkaKeepsItsData is the harness's own check: stopping and starting the
// central Kafka is an outage, not a new one.
func TestKafkaKeepsItsData(t *testing.T) {
	k := StartKafka(t)
	create := func() error {
		client := k.Client()
		defer client.Close()
		_, err := kadm.NewClient(client).CreateTopic(context.Background(), 1, 1, nil, "kept")
		return err
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	k.Stop()
	k.Start()
	if err := create(); err == nil {
		t.Error("creating the topic again: got no error, want that it exists")
	}
}
