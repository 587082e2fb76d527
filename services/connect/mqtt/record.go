package mqtt

import (
	"strconv"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Headers of a record; README.md is their contract.
const (
	headerClient        = "mqtt.client"
	headerQoS           = "mqtt.qos"
	headerRetain        = "mqtt.retain"
	headerContentType   = "mqtt.content-type"
	headerResponseTopic = "mqtt.response-topic"
	headerCorrelation   = "mqtt.correlation-data"
	headerUser          = "mqtt.user." // + the user property's name
)

// record turns a message into a record of the route's topic.
func (r *route) record(client string, pk packets.Packet) *kgo.Record {
	h := []kgo.RecordHeader{
		{Key: headerClient, Value: []byte(client)},
		{Key: headerQoS, Value: strconv.AppendUint(nil, uint64(pk.FixedHeader.Qos), 10)},
	}
	add := func(given bool, key string, value []byte) {
		if given {
			h = append(h, kgo.RecordHeader{Key: key, Value: value})
		}
	}
	p := &pk.Properties
	add(pk.FixedHeader.Retain, headerRetain, []byte("1"))
	add(p.ContentType != "", headerContentType, []byte(p.ContentType))
	add(p.ResponseTopic != "", headerResponseTopic, []byte(p.ResponseTopic))
	add(len(p.CorrelationData) > 0, headerCorrelation, p.CorrelationData)
	for _, u := range p.User {
		add(true, headerUser+u.Key, []byte(u.Val))
	}
	return &kgo.Record{Topic: r.Topic, Key: []byte(pk.TopicName), Value: pk.Payload, Headers: h, Timestamp: time.Now()}
}
