package server

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/store"
)

// Produce: appends one record batch to each of some partitions.
//
// Versions 3 and later carry record batches. 0 to 2 are told to clients too,
// and their message sets refused one by one (as in Kafka, KAFKA-18659): an old
// librdkafka that does not see them believes that the broker knows no
// compression and silently sends everything uncompressed.
//
// acks 1 and -1 differ in what they wait for: the write, or the sync.
// Versions 12 and later belong to transactions, which are not served yet.
var produceAPI = api{key: kmsg.Produce, min: 0, max: 11, handle: handleProduce}

// zstd may only be sent from this version on (KIP-110).
const (
	zstdVersion = 7
	zstdCodec   = 4
)

func handleProduce(s *Server, _ context.Context, r *request) (answer, error) {
	req, err := decodeProduce(r.version, r.body)
	if err != nil {
		return answer{}, fmt.Errorf("decode Produce version %d: %w", r.version, err)
	}
	resp := &kmsg.ProduceResponse{Version: r.version, Topics: make([]kmsg.ProduceResponseTopic, len(req.topics))}
	p := &produced{resp: resp}
	for i, t := range req.topics {
		topic := s.Catalog.Get(t.name)
		rt := &resp.Topics[i]
		rt.Topic, rt.Partitions = t.name, make([]kmsg.ProduceResponseTopicPartition, len(t.parts))
		for j, part := range t.parts {
			out := &rt.Partitions[j]
			*out = kmsg.NewProduceResponseTopicPartition()
			out.Partition, out.BaseOffset = part.num, -1
			a, log, err := s.append(r.version, req, topic, part)
			if err != nil {
				out.ErrorCode, out.ErrorMessage = code(err), message(err)
				continue
			}
			out.BaseOffset, out.LogStartOffset = a.Base, a.Start
			if req.acks == -1 {
				p.syncs = append(p.syncs, syncing{log, a.Next, out})
			}
		}
	}
	switch {
	case req.acks == 0:
		return answer{}, nil
	case len(p.syncs) == 0:
		return answer{msg: resp}, nil
	}
	return answer{msg: resp, later: p}, nil
}

// append checks one batch and writes it.
func (s *Server) append(version int16, req *produceRequest, t *catalog.Topic, p producePart) (store.Appended, *store.Log, error) {
	fail := func(err error) (store.Appended, *store.Log, error) { return store.Appended{}, nil, err }
	log, err := logOf(t, p.num)
	switch {
	case err != nil:
		return fail(err)
	case req.acks < -1 || req.acks > 1:
		return fail(kerr.InvalidRequiredAcks)
	case req.transactional:
		return fail(store.ErrTransaction)
	case int64(len(p.records)) > t.MaxMessageBytes():
		return fail(kerr.MessageTooLarge)
	}
	h, err := store.Check(p.records)
	switch {
	case err != nil:
		return fail(err)
	case version < zstdVersion && h.Attributes&7 == zstdCodec:
		return fail(kerr.UnsupportedCompressionType)
	case !s.Room(h.Size()):
		return fail(store.ErrFull)
	}
	a, err := log.Append(p.records, h, req.acks == -1)
	if err != nil {
		return fail(err)
	}
	if !a.Duplicate {
		s.Metrics.RecordsIn.add(int64(h.Records))
		s.Metrics.RecordBytesIn.add(h.Size())
	}
	return a, log, nil
}

// logOf finds a partition's log.
func logOf(t *catalog.Topic, part int32) (*store.Log, error) {
	if t == nil || part < 0 || int(part) >= len(t.Partitions) {
		return nil, kerr.UnknownTopicOrPartition
	}
	p := t.Partitions[part]
	if p.Log == nil {
		return nil, fmt.Errorf("partition is not open: %w", store.ErrReadOnly)
	}
	return p.Log, nil
}

// produced is a response whose records are being synced.
type produced struct {
	resp  *kmsg.ProduceResponse
	syncs []syncing
}

type syncing struct {
	log  *store.Log
	next int64
	out  *kmsg.ProduceResponseTopicPartition
}

func (p *produced) ready() bool {
	for _, s := range p.syncs {
		if _, hw := s.log.Bounds(); hw < s.next {
			return false
		}
	}
	return true
}

func (p *produced) wait(ctx context.Context) {
	for _, s := range p.syncs {
		err := s.log.Wait(ctx, s.next)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			err = kerr.RequestTimedOut
		}
		s.out.ErrorCode, s.out.ErrorMessage, s.out.BaseOffset = code(err), message(err), -1
	}
}
