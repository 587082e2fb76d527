package connect

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// backend is where records go: the box's broker, or a screen.
type backend interface {
	// produce calls done once, from any goroutine, when r is on the broker's
	// disk or will not be. After ctx has ended that may take until close.
	produce(ctx context.Context, r *kgo.Record, done func(error))
	commit(ctx context.Context, position []byte, rs []*kgo.Record) error
	position(ctx context.Context) ([]byte, error)
	// commands gives the commands of b's topic to b until ctx ends.
	commands(ctx context.Context, b *Box) error
	close()
}

// maxBatch is Kafka's default message.max.bytes, maxRecord what surely fits
// into it with all that a batch adds.
const (
	maxBatch  = 1048588
	maxRecord = maxBatch - 4096
)

var errTooLarge = errors.New("the record is larger than the broker takes")

func tooLarge(r *kgo.Record) error {
	if size(r) > maxRecord {
		return errTooLarge
	}
	return nil
}

// recordCost is what a record takes in memory besides its bytes.
const recordCost = 300

func size(r *kgo.Record) int64 {
	n := len(r.Topic) + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + 40
	}
	return int64(n)
}

// permanent tells a refusal that sending the same record again cannot mend.
func permanent(err error) bool {
	for _, p := range []error{
		errTooLarge, kerr.MessageTooLarge, kerr.InvalidRecord, kerr.RecordListTooLarge, kerr.InvalidTopicException,
		kerr.InvalidTimestamp, kerr.UnknownTopicOrPartition, kerr.TopicAuthorizationFailed, kerr.PolicyViolation,
	} {
		if errors.Is(err, p) {
			return true
		}
	}
	return false
}
