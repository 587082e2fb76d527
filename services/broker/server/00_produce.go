package server

import (
	"context"
	"errors"
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
//
// A transactional batch is taken while its partition is in the producer's
// transaction. From version 12 on its arrival adds the partition (KIP-890),
// durably, before the batch is appended.
var produceAPI = api{key: kmsg.Produce, min: 0, max: 13, handle: handleProduce}

// Versions of Produce.
const (
	zstdVersion      = 7  // zstd may be sent from here on (KIP-110)
	abortableVersion = 11 // knows TransactionAbortable
	implicitVersion  = 12 // batches add their partitions to the transaction
	topicIDVersion   = 13 // names topics by id

	zstdCodec = 4
)

func handleProduce(s *Server, ctx context.Context, r *request) (answer, error) {
	req, err := decodeProduce(r.version, r.body)
	if err != nil {
		return answer{}, fmt.Errorf("decode Produce version %d: %w", r.version, err)
	}
	s.checkProduce(r, req)
	p := s.appendAll(ctx, r.version, req)
	switch {
	case req.acks == 0:
		return answer{}, p.firstError() // the end of the connection is all that such a client can be told
	case len(p.syncs) == 0:
		return answer{msg: p.resp}, nil
	}
	return answer{msg: p.resp, later: p}, nil
}

// checkProduce finds the log of every batch, and what is wrong with it.
func (s *Server) checkProduce(r *request, req *produceRequest) {
	var mayTransact error
	if req.txn != nil {
		mayTransact = s.refused(r, kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, *req.txn)
	} else {
		mayTransact = kerr.TransactionalIDAuthorizationFailed
	}
	for i := range req.topics {
		t := &req.topics[i]
		topic, refusal := s.produceTopic(r, t)
		for j := range t.parts {
			p := &t.parts[j]
			if p.err = refusal; p.err == nil {
				p.err = s.checkPart(r, req.acks, topic, p)
			}
			if p.err == nil && p.head.Transactional() {
				p.err = mayTransact
			}
		}
	}
}

// produceTopic finds a topic by what the version names it, and fills in its
// name.
func (s *Server) produceTopic(r *request, t *produceTopic) (*catalog.Topic, error) {
	var topic *catalog.Topic
	if r.version >= topicIDVersion {
		if topic = s.Catalog.ByID(t.id); topic == nil {
			return nil, kerr.UnknownTopicID
		}
		t.name = topic.Name
	} else if topic = s.Catalog.Get(t.name); topic != nil {
		t.id = topic.ID
	}
	return topic, s.refused(r, kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTopic, t.name)
}

func (s *Server) checkPart(r *request, acks int16, t *catalog.Topic, p *producePart) (err error) {
	if p.log, err = logOf(t, p.num); err != nil {
		return err
	}
	switch {
	case acks < -1 || acks > 1:
		return kerr.InvalidRequiredAcks
	case int64(len(p.records)) > t.MaxMessageBytes():
		return kerr.MessageTooLarge
	}
	p.head, err = store.CheckBy(p.records, func(b []byte, at int) uint32 {
		return r.sums.of(b, int(r.size)-len(r.body)+p.at+at)
	})
	switch {
	case err != nil:
		return err
	case r.version < zstdVersion && p.head.Attributes&7 == zstdCodec:
		return kerr.UnsupportedCompressionType
	case !s.Room(p.head.Size(), t.GivesWay()):
		return store.ErrFull
	}
	set := t.Settings()
	p.unpack = set.Recompresses(p.head)
	look := store.CheckKeys // which counts as well
	switch {
	case set.Compaction.Compact:
	case p.head.Dense() && !p.unpack: // to recompress is to count
		look = store.CheckCount
	default:
		return nil
	}
	s.unpacks.begin()
	defer s.unpacks.end()
	return look(p.records, p.head)
}

// appendAll writes the batches that nothing is wrong with.
func (s *Server) appendAll(ctx context.Context, version int16, req *produceRequest) *produced {
	if req.txn != nil {
		defer s.enterTransaction(ctx, version, req)()
	}
	resp := &kmsg.ProduceResponse{Version: version, Topics: make([]kmsg.ProduceResponseTopic, len(req.topics))}
	p := &produced{resp: resp}
	for i := range req.topics {
		t, rt := &req.topics[i], &resp.Topics[i]
		rt.Topic, rt.TopicID = t.name, t.id
		rt.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(t.parts))
		for j := range t.parts {
			part, out := &t.parts[j], &rt.Partitions[j]
			*out = kmsg.NewProduceResponseTopicPartition()
			out.Partition = part.num
			if part.err == nil {
				part.err = s.append(part, req.acks == -1, out)
			}
			switch {
			case part.err != nil:
				refuseBatch(out, part.err)
			case req.acks == -1:
				p.syncs = append(p.syncs, syncing{part.log, part.next, out})
			}
		}
	}
	return p
}

func (s *Server) append(p *producePart, urgent bool, out *kmsg.ProduceResponseTopicPartition) error {
	turns := s.writes
	if p.unpack {
		turns = s.unpacks
	}
	turns.begin()
	a, err := p.log.Append(p.records, p.head, urgent)
	turns.end()
	if err != nil {
		return err
	}
	p.next = a.Next
	out.BaseOffset, out.LogStartOffset, out.LogAppendTime = a.Base, a.Start, a.AppendMs
	if !a.Duplicate {
		s.Metrics.RecordsIn.add(int64(p.head.Records))
		s.Metrics.RecordBytesIn.add(p.head.Size())
	}
	return nil
}

func refuseBatch(out *kmsg.ProduceResponseTopicPartition, err error) {
	out.BaseOffset, out.ErrorCode, out.ErrorMessage = -1, code(err), message(err)
	var keys *store.KeyError
	if errors.As(err, &keys) { // which records are to blame (KIP-467)
		for _, i := range keys.Records {
			out.ErrorRecords = append(out.ErrorRecords, kmsg.ProduceResponseTopicPartitionErrorRecord{RelativeOffset: i, ErrorMessage: &noKey})
		}
	}
}

var noKey = "a record of a compacted topic must have a key"

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

// firstError is nil when every batch was appended.
func (p *produced) firstError() error {
	for _, t := range p.resp.Topics {
		for _, part := range t.Partitions {
			if part.ErrorCode != 0 {
				return fmt.Errorf("produce with acks=0 to %s-%d: %w", t.Topic, part.Partition, kerr.ErrorForCode(part.ErrorCode))
			}
		}
	}
	return nil
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
		refuseBatch(s.out, err)
	}
}
