package kafka

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A topic is made with its configuration, and stays as it is afterwards.
func TestEnsureTopic(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cl, err := NewClient(Config{Bootstrap: cluster.ListenAddrs(), ClientID: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	for _, policy := range []string{"compact", "delete"} {
		if err := EnsureTopic(t.Context(), cl, "t", map[string]string{"cleanup.policy": policy}); err != nil {
			t.Fatal(err)
		}
		got, err := kadm.NewClient(cl).DescribeTopicConfigs(t.Context(), "t")
		if err != nil || len(got) != 1 {
			t.Fatalf("describe: %v, %v", got, err)
		}
		for _, c := range got[0].Configs {
			if c.Key == "cleanup.policy" && c.MaybeValue() != "compact" {
				t.Errorf("after %s: cleanup.policy is %q, want compact", policy, c.MaybeValue())
			}
		}
	}
	cluster.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		topic := kmsg.NewCreateTopicsResponseTopic()
		topic.Topic, topic.ErrorCode = "u", kerr.PolicyViolation.Code
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	if err := EnsureTopic(t.Context(), cl, "u", nil); !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("a topic that is refused: got %v, want %v", err, kerr.PolicyViolation)
	}
}
