package http

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// stored is what became of a record.
type stored struct {
	partition int32
	offset    int64
	at        time.Time
	err       error
}

// store returns when the broker has every record on disk, or has said no to
// it, or time is up.
func (s *server) store(ctx context.Context, rs []*kgo.Record) []stored {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	out := make([]stored, len(rs))
	var wg sync.WaitGroup
	for i, r := range rs {
		wg.Add(1)
		s.storeOne(ctx, r, func() {}, func(o stored) { out[i] = o; wg.Done() })
	}
	wg.Wait()
	return out
}

// storeOne calls done once, and free when the client has let go of the record.
// It blocks while too much waits for the broker.
func (s *server) storeOne(ctx context.Context, r *kgo.Record, free func(), done func(stored)) {
	var once sync.Once
	finish := func(o stored) { once.Do(func() { done(o) }) }
	// The client lets go of records late when the broker is away.
	detach := context.AfterFunc(ctx, func() { finish(stored{err: context.Cause(ctx)}) })
	s.kafka.Produce(ctx, r, func(r *kgo.Record, err error) {
		detach()
		if err == nil {
			s.box.Count(1, int64(len(r.Value)))
		}
		free()
		finish(stored{r.Partition, r.Offset, r.Timestamp, err})
	})
}

// produceV2 is the body of POST /topics/{topic} and of its partitions.
type produceV2 struct {
	Records []struct {
		Key       json.RawMessage `json:"key"`
		Value     json.RawMessage `json:"value"`
		Partition *int32          `json:"partition"`
	} `json:"records"`
}

// offsetV2 is the answer to one record.
type offsetV2 struct {
	Partition *int32  `json:"partition"`
	Offset    *int64  `json:"offset"`
	ErrorCode *int    `json:"error_code"`
	Error     *string `json:"error"`
}

func (s *server) postTopic(w http.ResponseWriter, r *http.Request, c *caller) error {
	return s.produceV2(w, r, c, -1)
}

func (s *server) postPartition(w http.ResponseWriter, r *http.Request, c *caller) error {
	p, err := s.partition(r, c)
	if err != nil {
		return err
	}
	return s.produceV2(w, r, c, p)
}

func (s *server) produceV2(w http.ResponseWriter, r *http.Request, c *caller, partition int32) error {
	topic := r.PathValue("topic")
	if !c.may(topic) {
		return errNoTopic
	}
	kind := media(r.Header.Get("Content-Type"))
	if kind != typeJSON && kind != typeBinary {
		return &problem{http.StatusUnsupportedMediaType, 415, fmt.Sprintf("content type %q is not taken: want %s or %s", kind, typeJSON, typeBinary)}
	}
	data, free, err := s.body(w, r, c.name)
	if err != nil {
		return err
	}
	defer free()
	var in produceV2
	if err := decode(data, &in); err != nil {
		return err
	}
	if len(in.Records) == 0 {
		return bad(422, "records may not be empty")
	}
	if len(in.Records) > maxRecords {
		return tooMany(len(in.Records))
	}
	if wait := s.rates.take(c.name, len(in.Records)); wait > 0 {
		return &later{wait}
	}
	rs := make([]*kgo.Record, len(in.Records))
	for i, rec := range in.Records {
		out := &kgo.Record{Topic: topic, Partition: partition, Headers: s.headers(c)}
		if rec.Partition != nil {
			out.Partition = *rec.Partition
		}
		if out.Key, err = embedded(kind, rec.Key); err == nil {
			out.Value, err = embedded(kind, rec.Value)
		}
		if err != nil {
			return bad(422, "record %d: %v", i, err)
		}
		rs[i] = out
	}
	if err := s.checkPartitions(r.Context(), rs); err != nil {
		return err
	}
	offsets := make([]offsetV2, len(rs))
	for i, o := range s.store(r.Context(), rs) {
		if o.err == nil {
			offsets[i] = offsetV2{Partition: &o.partition, Offset: &o.offset}
			continue
		}
		p := kafkaProblem(o.err)
		code := 50003 // "Kafka retriable exception"
		if p.status != http.StatusServiceUnavailable {
			code = 50002 // "Kafka exception"
		}
		offsets[i] = offsetV2{ErrorCode: &code, Error: &p.text}
	}
	answer(w, r, http.StatusOK, map[string]any{"offsets": offsets, "key_schema_id": nil, "value_schema_id": nil})
	return nil
}

func (s *server) headers(c *caller) []kgo.RecordHeader {
	return []kgo.RecordHeader{{Key: "connector", Value: []byte(s.box.Name())}, {Key: "source", Value: []byte(c.name)}}
}

// embedded is a key or value of a v2 record; null and absent are nil.
func embedded(kind string, raw json.RawMessage) ([]byte, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if kind == typeJSON {
		return raw, nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, fmt.Errorf("want base64 text: %w", err)
	}
	return base64.StdEncoding.DecodeString(text)
}

// checkPartitions refuses a partition that the topic lacks: the client would
// panic over it, or wait.
func (s *server) checkPartitions(ctx context.Context, rs []*kgo.Record) error {
	most := int32(-1)
	for _, r := range rs {
		if r.Partition < -1 {
			return bad(422, "partition %d: want a number from 0", r.Partition)
		}
		most = max(most, r.Partition)
	}
	if most < 0 {
		return nil
	}
	n, err := s.partitions(ctx, rs[0].Topic)
	if err != nil {
		return err
	}
	if int(most) >= n {
		return &problem{http.StatusNotFound, 40402, "Partition not found."}
	}
	return nil
}
