package gate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
)

// CanaryTopic holds the gate's records for an hour. Links that carry topics by
// a prefix pass over names with two underscores.
const CanaryTopic = "__wayside_canary"

const (
	canaryRetention = "3600000" // ms
	canaryLimit     = 10 * time.Second
)

// Canary takes a record through a broker. It dials on every call: a client
// that was connected before would not see that nobody can connect.
type Canary struct {
	Broker []string // bootstrap, host:port
	Log    *slog.Logger
}

// Fly produces one record with acks=all, so that it is on the disk, and
// consumes it from where it was said to be. A broker that acknowledges and then
// gives something else is ErrWrong.
func (c Canary) Fly(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, canaryLimit)
	defer cancel()
	cl, err := kafka.NewClient(kafka.Config{Bootstrap: c.Broker, ClientID: "wayside-updater", Log: c.Log},
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(canaryLimit), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	// franz-go gives up no record that may have been taken, whatever the
	// context and the time-outs say, but at its end.
	defer context.AfterFunc(ctx, cl.Close)()
	if err := kafka.EnsureTopic(ctx, cl, CanaryTopic, map[string]string{"retention.ms": canaryRetention}); err != nil {
		return fmt.Errorf("make topic %s: %w", CanaryTopic, spoken(ctx, err))
	}
	sent := &kgo.Record{Topic: CanaryTopic, Key: []byte("canary"), Value: []byte(rand.Text())}
	if err := cl.ProduceSync(ctx, sent).FirstErr(); err != nil {
		return fmt.Errorf("produce with acks=all: %w", spoken(ctx, err))
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{CanaryTopic: {0: kgo.NewOffset().At(sent.Offset)}})
	got, err := firstRecord(ctx, cl)
	var code *kerr.Error
	switch {
	case err != nil && ctx.Err() == nil && !errors.As(err, &code):
		return fmt.Errorf("%w: what it acknowledged at offset %d cannot be read: %v", ErrWrong, sent.Offset, err)
	case err != nil:
		return fmt.Errorf("consume what was acknowledged: %w", spoken(ctx, err))
	case got.Offset != sent.Offset || !bytes.Equal(got.Value, sent.Value):
		return fmt.Errorf("%w: offset %d was acknowledged with one record, and holds another (at %d)", ErrWrong, sent.Offset, got.Offset)
	}
	return nil
}

func firstRecord(ctx context.Context, cl *kgo.Client) (*kgo.Record, error) {
	for {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, err
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return nil, errs[0].Err
		}
		if records := fetches.Records(); len(records) > 0 {
			return records[0], nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// spoken replaces "context deadline exceeded" and "client closed", which say
// nothing.
func spoken(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrClientClosed)) {
		return fmt.Errorf("no answer within %s", canaryLimit)
	}
	return err
}
