package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
)

// What must outlive a restart is in one compacted Kafka topic, so that it can
// be written in one transaction with records, and there is one thing on the
// box to make durable. Its format is docs/formats/mqtt-state.md.
const (
	// StateTopic holds sessions, retained messages and packet identifiers.
	StateTopic = "wayside-mqtt"

	stateVersion = 1

	keySession  = "s/" // + client: who it is and what it subscribes to
	keyPosition = "p/" // + client: what it has been sent
	keyReceived = "i/" // + packet id / client: a QoS 2 message that is stored and not released
	keyRetained = "r/" // + MQTT topic: the retained message, as a record has it
	keyFeed     = "f/" // + Kafka topic: how far a publication with retain has come
)

// storedSession is the value of s/client.
type storedSession struct {
	Version int         `json:"version"`
	User    string      `json:"user,omitempty"`
	V5      bool        `json:"v5,omitempty"`
	Expiry  uint32      `json:"expiry"` // seconds after the connection's end
	Subs    []storedSub `json:"subscriptions,omitempty"`
	Will    *storedWill `json:"will,omitempty"` // of a client that was connected, or whose will is delayed
}

type storedSub struct {
	Filter      string `json:"filter"`
	QoS         byte   `json:"qos"`
	NoLocal     bool   `json:"no_local,omitempty"`
	AsPublished bool   `json:"retain_as_published,omitempty"`
	Handling    byte   `json:"retain_handling,omitempty"`
	Identifier  int    `json:"identifier,omitempty"`
}

type storedWill struct {
	Topic   string             `json:"topic"`
	Payload []byte             `json:"payload,omitempty"`
	QoS     byte               `json:"qos"`
	Retain  bool               `json:"retain,omitempty"`
	Delay   uint32             `json:"delay,omitempty"` // seconds
	Expiry  uint32             `json:"expiry,omitempty"`
	Props   packets.Properties `json:"properties"`
}

// storedPosition is the value of p/client.
type storedPosition struct {
	Version int              `json:"version"`
	Next    map[string]int64 `json:"next"`           // "topic/partition": first offset to look at again
	Once    map[string]int64 `json:"once,omitempty"` // below it every message for QoS 2 is in Sent, or done with
	Sent    []storedSent     `json:"sent,omitempty"`
}

// storedSent is a message whose flow is not complete.
type storedSent struct {
	ID        uint16 `json:"id"`
	QoS       byte   `json:"qos"`
	Topic     string `json:"topic,omitempty"` // of Kafka
	Partition int32  `json:"partition,omitempty"`
	Offset    int64  `json:"offset,omitempty"`
	Retained  string `json:"retained,omitempty"` // MQTT topic, of a retained message that was sent instead
	Released  bool   `json:"released,omitempty"` // PUBREC has come
}

func (p part) key() string { return p.topic + "/" + strconv.Itoa(int(p.n)) }

func parsePart(s string) (part, bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 1 {
		return part{}, false
	}
	n, err := strconv.ParseInt(s[i+1:], 10, 32)
	return part{s[:i], int32(n)}, err == nil && n >= 0
}

func keysOf(m map[part]int64) map[string]int64 {
	out := make(map[string]int64, len(m))
	for p, n := range m {
		out[p.key()] = n
	}
	return out
}

func partsOf(m map[string]int64) map[part]int64 {
	out := make(map[part]int64, len(m))
	for k, n := range m {
		if p, ok := parsePart(k); ok && n >= 0 {
			out[p] = n
		}
	}
	return out
}

// receivedKey orders the identifier before the client, which may hold a /.
func receivedKey(client string, id uint16) string {
	return keyReceived + strconv.Itoa(int(id)) + "/" + client
}

func parseReceived(key string) (client string, id uint16, ok bool) {
	text, client, found := strings.Cut(strings.TrimPrefix(key, keyReceived), "/")
	n, err := strconv.ParseUint(text, 10, 16)
	return client, uint16(n), found && err == nil && n > 0
}

// stateRecord is a change of the state; a nil value forgets the key.
func stateRecord(key string, value any) *kgo.Record {
	r := &kgo.Record{Topic: StateTopic, Key: []byte(key)}
	if value == nil {
		return r
	}
	b, err := json.Marshal(value)
	if err != nil { // of our own plain structs
		panic(err)
	}
	r.Value = b
	return r
}

// loaded is the state as the topic has it.
type loaded struct {
	sessions  map[string]storedSession
	positions map[string]storedPosition
	received  map[string]map[uint16]bool
	retained  map[string]*message
	feed      map[part]int64
	bad       int // records that nobody can read
}

func newLoaded() *loaded {
	return &loaded{
		sessions: map[string]storedSession{}, positions: map[string]storedPosition{},
		received: map[string]map[uint16]bool{}, retained: map[string]*message{}, feed: map[part]int64{},
	}
}

// apply takes one record of the state topic.
func (l *loaded) apply(r *kgo.Record) {
	key, gone := string(r.Key), len(r.Value) == 0
	var err error
	switch {
	case strings.HasPrefix(key, keySession):
		err = put(l.sessions, key[len(keySession):], r.Value, func(s storedSession) int { return s.Version })
	case strings.HasPrefix(key, keyPosition):
		err = put(l.positions, key[len(keyPosition):], r.Value, func(p storedPosition) int { return p.Version })
	case strings.HasPrefix(key, keyReceived):
		client, id, ok := parseReceived(key)
		switch {
		case !ok:
			err = errors.New("no packet identifier")
		case gone:
			delete(l.received[client], id)
		default:
			if l.received[client] == nil {
				l.received[client] = map[uint16]bool{}
			}
			l.received[client][id] = true
		}
	case strings.HasPrefix(key, keyRetained):
		err = l.applyRetained(key[len(keyRetained):], r, gone)
	case strings.HasPrefix(key, keyFeed):
		var next map[string]int64
		if err = json.Unmarshal(r.Value, &next); err == nil {
			for p, n := range partsOf(next) {
				l.feed[p] = n
			}
		}
	default:
		err = errors.New("unknown key")
	}
	if err != nil {
		l.bad++
	}
}

func (l *loaded) applyRetained(topic string, r *kgo.Record, gone bool) error {
	if gone {
		delete(l.retained, topic)
		return nil
	}
	named := *r
	named.Key = []byte(topic)
	m := fromRecord(&named)
	if m == nil {
		return errors.New("no message")
	}
	m.at = place{}
	m.own()
	l.retained[topic] = m
	return nil
}

func put[T any](to map[string]T, name string, value []byte, version func(T) int) error {
	if len(value) == 0 {
		delete(to, name)
		return nil
	}
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	if version(v) != stateVersion {
		return fmt.Errorf("version %d", version(v))
	}
	to[name] = v
	return nil
}

// makeState makes the topic, if it is not there.
func makeState(ctx context.Context, cl *kgo.Client) error {
	return kafka.EnsureTopic(ctx, cl, StateTopic, map[string]string{"cleanup.policy": "compact", "segment.bytes": "16777216"})
}

// loadState reads the whole state topic, and returns when it has seen what
// was there when it began.
func loadState(ctx context.Context, open func(...kgo.Opt) (*kgo.Client, error)) (*loaded, error) {
	cl, err := open(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{StateTopic: {0: kgo.NewOffset().AtStart()}}),
	)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	end, err := logEnds(ctx, cl, StateTopic)
	if err != nil {
		return nil, err
	}
	l, target := newLoaded(), end[part{StateTopic, 0}]
	if target.start >= target.end {
		return l, nil
	}
	for next := int64(0); next < target.end; {
		fetches, over, err := poll(ctx, cl)
		if err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				l.apply(r)
			}
		})
		for _, u := range over {
			next = u.next
			l.bad += int(u.next - u.from)
		}
	}
	return l, nil
}

// span is what a partition holds for those who read what is committed.
type span struct{ start, end int64 }

// logEnds lists the partitions of topics; one that does not exist has none.
func logEnds(ctx context.Context, cl *kgo.Client, topics ...string) (map[part]span, error) {
	adm := kadm.NewClient(cl)
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	ends, err := adm.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	out := map[part]span{}
	ends.Each(func(o kadm.ListedOffset) {
		if start, ok := starts.Lookup(o.Topic, o.Partition); ok && o.Err == nil && start.Err == nil {
			out[part{o.Topic, o.Partition}] = span{start.Offset, o.Offset}
		} else if o.Err != nil && !errors.Is(o.Err, kerr.UnknownTopicOrPartition) {
			err = o.Err
		}
	})
	return out, err
}
