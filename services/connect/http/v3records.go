package http

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordV3 is one record of the stream of POST .../records.
type recordV3 struct {
	Partition *int32 `json:"partition_id"`
	Headers   []struct {
		Name  string  `json:"name"`
		Value *string `json:"value"` // base64
	} `json:"headers"`
	Key       *dataV3    `json:"key"`
	Value     *dataV3    `json:"value"`
	Timestamp *time.Time `json:"timestamp"`
}

type dataV3 struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

func (d *dataV3) bytes() ([]byte, error) {
	if d == nil || len(d.Data) == 0 || string(d.Data) == "null" {
		return nil, nil
	}
	var text string
	switch d.Type {
	case "JSON":
		return d.Data, nil
	case "BINARY", "STRING":
		if err := json.Unmarshal(d.Data, &text); err != nil {
			return nil, fmt.Errorf("type %s wants text: %w", d.Type, err)
		}
		if d.Type == "STRING" {
			return []byte(text), nil
		}
		return base64.StdEncoding.DecodeString(text)
	}
	return nil, fmt.Errorf("type %q is not taken: want JSON, BINARY or STRING; there is no schema registry on the box", d.Type)
}

// said is what the answer has of it.
func (d *dataV3) said(n int) object {
	if d == nil {
		return nil
	}
	return object{"type": d.Type, "size": n}
}

const maxStreaming = 64 // records of a stream that wait for the broker

// postRecords reads a stream of JSON objects and answers each, in their
// order, once the broker has it on disk; a client may keep the connection
// open and go on.
func (s *server) postRecords(w http.ResponseWriter, r *http.Request, c *caller) error {
	id, err := s.cluster(r)
	if err != nil {
		return err
	}
	topic := r.PathValue("topic")
	if !c.may(topic) {
		return errNoTopic
	}
	if t := media(r.Header.Get("Content-Type")); t != typePlain {
		return &problem{http.StatusUnsupportedMediaType, 415, fmt.Sprintf("content type %q is not taken: want %s", t, typePlain)}
	}
	ctl := http.NewResponseController(w)
	_ = ctl.EnableFullDuplex()
	w.Header().Set("Content-Type", typePlain)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	answers := make(chan func() object, maxStreaming)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(answers)
		s.readRecords(ctx, ctl, r, c, id, topic, answers)
	}()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	first := true
	for a := range answers {
		out := a()
		if code, ok := out["error_code"].(int); ok && first && code != http.StatusOK && len(answers) == 0 {
			w.WriteHeader(code)
		}
		first = false
		_ = ctl.SetWriteDeadline(time.Now().Add(bodyWait))
		if enc.Encode(out) != nil {
			cancel() // the client is gone
		}
		_ = ctl.Flush()
	}
	<-read
	return nil
}

// readRecords puts a function for each record into answers: it waits for what
// to answer.
func (s *server) readRecords(ctx context.Context, ctl *http.ResponseController, r *http.Request, c *caller, id, topic string, answers chan<- func() object) {
	put := func(a func() object) bool {
		select {
		case answers <- a:
			return true
		case <-ctx.Done():
			return false
		}
	}
	refuse := func(status int, text string) bool {
		return put(func() object { return object{"error_code": status, "message": text} })
	}
	body := newStream(&arriving{ctx: ctx, r: r.Body, room: s.bodies, caller: c.name, most: s.maxBody})
	defer body.leave()
	for n := 0; ctx.Err() == nil; n++ {
		_ = ctl.SetReadDeadline(time.Now().Add(bodyWait))
		var in recordV3
		size, err := body.next(&in)
		switch {
		case errors.Is(err, io.EOF) && n > 0:
			return
		case errors.Is(err, errTooMuch):
			refuse(http.StatusRequestEntityTooLarge, tooLarge(s.maxBody).text)
			return
		case errors.Is(err, errNoRoom):
			refuse(http.StatusServiceUnavailable, busy().text)
			return
		case err != nil:
			refuse(http.StatusBadRequest, "Bad Request: the stream is no JSON that is understood: "+err.Error())
			return
		}
		free := func() { s.bodies.give(c.name, size) }
		a, err := s.takeV3(ctx, in, c, id, topic, free)
		if err != nil {
			free()
			var p *problem
			if !errors.As(err, &p) {
				p = kafkaProblem(err)
			}
			if !refuse(p.status, p.text) {
				return
			}
			continue
		}
		if !put(a) {
			return
		}
	}
}

// takeV3 has a record stored and returns what waits for it; free is called
// when nothing of it is held any more, unless there is an error.
func (s *server) takeV3(ctx context.Context, in recordV3, c *caller, id, topic string, free func()) (func() object, error) {
	if wait := s.rates.take(c.name, 1); wait > 0 {
		return nil, &problem{http.StatusTooManyRequests, 42901, (&later{}).Error()}
	}
	rec, err := s.recordV3(in, c, topic)
	if err != nil {
		return nil, err
	}
	if err := s.checkPartitions(ctx, []*kgo.Record{rec}); err != nil {
		return nil, err
	}
	// A client may be slow to take answers: they hold nothing of the record.
	key, value := in.Key.said(len(rec.Key)), in.Value.said(len(rec.Value))
	told := make(chan stored, 1)
	wait, cancel := context.WithTimeout(ctx, storeWait)
	s.storeOne(wait, rec, free, func(o stored) { told <- o })
	return func() object {
		defer cancel()
		return answerV3(<-told, id, topic, key, value)
	}, nil
}

// recordV3 makes a record of one of a stream.
func (s *server) recordV3(in recordV3, c *caller, topic string) (*kgo.Record, error) {
	rec := &kgo.Record{Topic: topic, Partition: -1}
	if in.Partition != nil {
		rec.Partition = *in.Partition
	}
	if in.Timestamp != nil {
		rec.Timestamp = *in.Timestamp
	}
	for _, h := range in.Headers {
		out := kgo.RecordHeader{Key: h.Name}
		if h.Value != nil {
			v, err := base64.StdEncoding.DecodeString(*h.Value)
			if err != nil {
				return nil, bad(422, "header %s: want base64: %v", h.Name, err)
			}
			out.Value = v
		}
		rec.Headers = append(rec.Headers, out)
	}
	rec.Headers = append(rec.Headers, s.headers(c)...)
	var err error
	if rec.Key, err = in.Key.bytes(); err == nil {
		rec.Value, err = in.Value.bytes()
	}
	if err != nil {
		return nil, bad(422, "Unprocessable Entity: %v", err)
	}
	return rec, nil
}

func answerV3(o stored, id, topic string, key, value object) object {
	if o.err != nil {
		p := kafkaProblem(o.err)
		return object{"error_code": p.status, "message": p.text}
	}
	out := object{
		"error_code": http.StatusOK, "cluster_id": id, "topic_name": topic, "partition_id": o.partition,
		"offset": o.offset, "timestamp": o.at.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
	}
	if key != nil {
		out["key"] = key
	}
	if value != nil {
		out["value"] = value
	}
	return out
}
