package mqtt

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kgo"
)

// item is what a device waits for an answer to: a QoS 1 or 2 PUBLISH, or a
// PUBREL.
type item struct {
	s       *session
	m       *message // of a PUBLISH
	r       *route
	pk      packets.Packet
	release bool // PUBREL
	at      time.Time
	of      *item         // this one is the same again, and has its result
	code    packets.Code  // answer, if not success
	err     error         // of the broker; read after done
	done    chan struct{} // closed when the broker has answered, or nothing was asked
}

// finish says what the broker said; it is called once.
func (it *item) finish(err error) {
	it.err = err
	it.s.c.finished(it)
	it.m, it.pk.Payload = nil, nil // a QoS 2 item stays until it is released
	close(it.done)
}

// result is what the broker said, after done.
func (it *item) result() error {
	if it.of != nil {
		return it.of.err
	}
	return it.err
}

// records are those that an item of a persistent session's QoS 2 stores.
func (it *item) records() []*kgo.Record {
	key := receivedKey(it.s.id, it.pk.PacketID)
	if it.release {
		return []*kgo.Record{stateRecord(key, nil)}
	}
	rs := []*kgo.Record{it.m.record(it.r.Topic, it.at), stateRecord(key, stateVersion)}
	if it.m.retain {
		rs = append(rs, retainedRecord(it.m))
	}
	return rs
}
