package mqtt

import (
	"strconv"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// Headers of a record; docs/connectors/mqtt.md is their contract. A message
// is made again from them for subscribers.
const (
	headerClient        = "mqtt.client"
	headerUsername      = "mqtt.username"
	headerQoS           = "mqtt.qos"
	headerRetain        = "mqtt.retain"
	headerExpiry        = "mqtt.expiry"
	headerFormat        = "mqtt.payload-format"
	headerContentType   = "mqtt.content-type"
	headerResponseTopic = "mqtt.response-topic"
	headerCorrelation   = "mqtt.correlation-data"
	headerUser          = "mqtt.user." // + the user property's name
)

// part is a partition of a Kafka topic.
type part struct {
	topic string
	n     int32
}

// place is where a record lies. The zero place is that of a message that no
// log holds.
type place struct {
	part
	offset int64
}

// message is an application message on its way to subscribers.
type message struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
	origin  string // client that published it
	user    string // as whom
	expires int64  // Unix seconds, 0 for never
	props   packets.Properties
	at      place
	// borrowed says that payload and correlation data lie in a record's batch.
	borrowed bool
	arrival  uint64 // of a retained message that waits for Kafka (retained.go)
}

// published is the message of a PUBLISH.
func published(client, user string, pk packets.Packet, now time.Time) *message {
	m := &message{
		topic: pk.TopicName, payload: pk.Payload, qos: pk.FixedHeader.Qos, retain: pk.FixedHeader.Retain,
		origin: client, user: user, props: carried(pk.Properties),
	}
	if n := pk.Properties.MessageExpiryInterval; n > 0 {
		m.expires = now.Unix() + int64(n)
	}
	return m
}

// carried are the properties that go from publisher to subscriber unaltered
// (MQTT 5.0, 3.3.2.3).
func carried(p packets.Properties) packets.Properties {
	return packets.Properties{
		PayloadFormat: p.PayloadFormat, PayloadFormatFlag: p.PayloadFormatFlag, ContentType: p.ContentType,
		ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData, User: p.User,
	}
}

// record turns a message into a record of a Kafka topic.
func (m *message) record(topic string, now time.Time) *kgo.Record {
	h := []kgo.RecordHeader{
		{Key: headerClient, Value: []byte(m.origin)},
		{Key: headerQoS, Value: strconv.AppendUint(nil, uint64(m.qos), 10)},
	}
	add := func(given bool, key string, value []byte) {
		if given {
			h = append(h, kgo.RecordHeader{Key: key, Value: value})
		}
	}
	p := &m.props
	add(m.user != "", headerUsername, []byte(m.user))
	add(m.retain, headerRetain, []byte("1"))
	add(m.expires > 0, headerExpiry, strconv.AppendInt(nil, m.expires, 10))
	add(p.PayloadFormatFlag, headerFormat, strconv.AppendUint(nil, uint64(p.PayloadFormat), 10))
	add(p.ContentType != "", headerContentType, []byte(p.ContentType))
	add(p.ResponseTopic != "", headerResponseTopic, []byte(p.ResponseTopic))
	add(len(p.CorrelationData) > 0, headerCorrelation, p.CorrelationData)
	for _, u := range p.User {
		add(true, headerUser+u.Key, []byte(u.Val))
	}
	return &kgo.Record{Topic: topic, Key: []byte(m.topic), Value: m.payload, Headers: h, Timestamp: now}
}

// fromRecord is the message that record made r of; nil when r is none.
func fromRecord(r *kgo.Record) *message {
	m := &message{topic: string(r.Key), payload: r.Value, at: place{part{r.Topic, r.Partition}, r.Offset}, borrowed: true}
	ours := false
	for _, h := range r.Headers {
		v := string(h.Value)
		switch h.Key {
		case headerClient:
			ours, m.origin = true, v
		case headerUsername:
			m.user = v
		case headerQoS:
			if len(v) == 1 && v[0] >= '0' && v[0] <= '2' {
				m.qos = v[0] - '0'
			}
		case headerRetain:
			m.retain = true
		case headerExpiry:
			m.expires, _ = strconv.ParseInt(v, 10, 64)
		case headerFormat:
			m.props.PayloadFormatFlag = true
			if v == "1" {
				m.props.PayloadFormat = 1
			}
		case headerContentType:
			m.props.ContentType = v
		case headerResponseTopic:
			m.props.ResponseTopic = v
		case headerCorrelation:
			m.props.CorrelationData = h.Value
		default:
			if name, ok := strings.CutPrefix(h.Key, headerUser); ok {
				m.props.User = append(m.props.User, packets.UserProperty{Key: name, Val: v})
			}
		}
	}
	if !ours || site.CheckMQTTTopic(m.topic) != nil {
		return nil
	}
	return m
}

// size is what a message that waits costs, in bytes.
func (m *message) size() int {
	p := &m.props
	n := len(m.payload) + len(m.topic) + len(p.ContentType) + len(p.ResponseTopic) + len(p.CorrelationData) + 200
	for _, u := range p.User {
		n += len(u.Key) + len(u.Val) + 32
	}
	return n
}

// packet is the PUBLISH of a message for a subscriber.
func (m *message) packet(qos byte, id uint16, retain, dup bool, subscription []int) packets.Packet {
	p := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos, Retain: retain, Dup: dup},
		TopicName:   m.topic, Payload: m.payload, PacketID: id, Origin: m.origin,
		Properties: m.props, Created: time.Now().Unix(), Expiry: m.expires,
	}
	p.Properties.SubscriptionIdentifier = subscription
	return p
}

func (m *message) expired(now time.Time) bool { return m.expires > 0 && now.Unix() >= m.expires }
