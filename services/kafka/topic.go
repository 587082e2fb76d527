package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// EnsureTopic makes a topic of one partition, unless it is there: then it stays
// as it is, whatever its configuration. Replicas are as many as the cluster
// gives a topic (KIP-464).
func EnsureTopic(ctx context.Context, cl *kgo.Client, topic string, config map[string]string) error {
	values := map[string]*string{}
	for key, v := range config {
		values[key] = &v
	}
	_, err := kadm.NewClient(cl).CreateTopic(ctx, 1, -1, values, topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}
