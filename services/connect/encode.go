package connect

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/encode"
	"github.com/waysideos/wayside/services/site"
)

// timeFormat is RFC 3339 with milliseconds, always UTC.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// Headers of records and dead letters; docs/connectors.md is their contract.
const (
	headerConnector  = "connector"
	headerSource     = "source"
	headerUnit       = "unit"
	headerQuality    = "quality"
	headerDeviceTime = "device-time"
	headerBoxTime    = "box-time"
	headerReason     = "reason"
	headerTruncated  = "truncated"
)

// jsonReading is format json.
type jsonReading struct {
	Point   string `json:"point"`
	Value   any    `json:"value"`
	Unit    string `json:"unit,omitempty"`
	Quality string `json:"quality"`
	Time    string `json:"time"` // device time, else box time
	BoxTime string `json:"box_time"`
	Address string `json:"address,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// encode makes a record of a reading: its value by format, its headers.
func (b *Box) encode(r Reading) (Record, error) {
	when := r.DeviceTime
	if when.IsZero() {
		when = r.BoxTime
	}
	values := map[string]string{
		"point": r.Point, "address": r.Address, "unit": r.Unit, "quality": r.Quality.String(), "connector": b.name,
	}
	maps.Copy(values, r.Values)
	r.Values = values
	value, err := encoders[b.records.Format](r, when)
	if err != nil {
		return Record{}, err
	}
	rec := Record{Value: value, Time: when, Values: values}
	add := func(key, text string) {
		if text != "" {
			rec.Headers = append(rec.Headers, Header{key, []byte(text)})
		}
	}
	add(headerSource, r.Address)
	add(headerUnit, r.Unit)
	add(headerQuality, r.Quality.String())
	if !r.DeviceTime.IsZero() {
		add(headerDeviceTime, r.DeviceTime.UTC().Format(timeFormat))
	}
	add(headerBoxTime, r.BoxTime.UTC().Format(timeFormat))
	return rec, nil
}

var encoders = map[string]func(r Reading, when time.Time) ([]byte, error){
	site.FormatJSON:     encodeJSON,
	site.FormatRaw:      encodeRaw,
	site.FormatAvro:     func(r Reading, when time.Time) ([]byte, error) { return encode.Avro(fixed(r, when)) },
	site.FormatProtobuf: func(r Reading, when time.Time) ([]byte, error) { return encode.Protobuf(fixed(r, when)), nil },
}

// fixed is a reading for the formats with a schema.
func fixed(r Reading, when time.Time) encode.Reading {
	return encode.Reading{
		Connector: r.Values["connector"], Point: r.Point, Address: r.Address, Value: r.Value, Unit: r.Unit,
		Quality: int(r.Quality), Time: when, BoxTime: r.BoxTime, Detail: r.Detail,
	}
}

// encodeJSON writes numbers that JSON does not have as null, of bad quality.
func encodeJSON(r Reading, when time.Time) ([]byte, error) {
	out := jsonReading{
		Point: r.Point, Value: r.Value, Unit: r.Unit, Quality: r.Quality.String(), Detail: r.Detail,
		Time: when.UTC().Format(timeFormat), BoxTime: r.BoxTime.UTC().Format(timeFormat), Address: r.Address,
	}
	switch v := r.Value.(type) {
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			out.Value, out.Quality, out.Detail = nil, Bad.String(), fmt.Sprintf("the value is %v", v)
		}
	case time.Time:
		out.Value = v.UTC().Format(timeFormat)
	}
	return json.Marshal(out)
}

// encodeRaw is the value itself: bytes and text as they are, numbers and truth
// values as text.
func encodeRaw(r Reading, _ time.Time) ([]byte, error) { return []byte(text(r.Value)), nil }

// finish puts what the profile says to a record.
func (b *Box) finish(r Record) *kgo.Record {
	if r.dead != nil {
		return b.deadLetter(r.dead.reason, r.Value, r.dead.source)
	}
	out := &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Timestamp: r.Time}
	if out.Timestamp.IsZero() {
		out.Timestamp = b.cfg.now()
	}
	if out.Topic == "" {
		out.Topic = topicName(b.expand(b.records.Topic, r.Values))
	}
	if out.Key == nil && b.records.Key != "" {
		out.Key = []byte(b.expand(b.records.Key, r.Values))
	}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	for _, name := range b.headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: name, Value: []byte(b.expand(b.records.Headers[name], r.Values))})
	}
	out.Headers = append(out.Headers, kgo.RecordHeader{Key: headerConnector, Value: []byte(b.name)})
	return out
}

func (b *Box) expand(template string, values map[string]string) string {
	out, _ := site.ExpandTemplate(template, func(word string) (string, bool) {
		switch word {
		case "site":
			return b.cfg.Site, true
		case "connector":
			return b.name, true
		}
		v, ok := values[word]
		return v, ok
	})
	return out
}

// topicName makes a topic's name of what devices said: / becomes a dot,
// anything else that no name has a hyphen.
func topicName(s string) string {
	const most = 249 // of Kafka
	if s == "" || strings.HasPrefix(s, "__") || strings.HasPrefix(s, "wayside-") {
		s = "-" + s // no name, or one of a topic that the box keeps for itself
	}
	out := []byte(s)
	for i, c := range out {
		switch {
		case c == '/':
			out[i] = '.'
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			out[i] = '-'
		}
	}
	if len(out) > most {
		out = out[:most]
	}
	return string(out)
}

// maxDead is how much of the original a dead letter holds at most, maxWords how
// much of its reason and source.
const (
	maxDead  = 512 << 10
	maxWords = 1024
)

func truncated(from int) kgo.RecordHeader {
	return kgo.RecordHeader{Key: headerTruncated, Value: fmt.Append(nil, from)}
}

func (b *Box) deadLetter(reason string, original []byte, source string) *kgo.Record {
	now := b.cfg.now()
	r := &kgo.Record{Topic: b.records.DeadLetter, Key: []byte(b.name), Value: original, Timestamp: now}
	add := func(key, value string) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	r = cut(r, int(b.deadMost.Load()))
	add(headerReason, reason[:min(len(reason), maxWords)])
	add(headerSource, source[:min(len(source), maxWords)])
	add(headerConnector, b.name)
	add(headerBoxTime, now.UTC().Format(timeFormat))
	return r
}
