package mqtt

import (
	"context"
	"errors"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kerr"
)

// connection is one connection of a device. Its reader (the library's) sends
// messages to Kafka as they come, many at once; its drain answers them in the
// order they came, as MQTT demands (4.6.0-2), each after Kafka has answered.
// Its sender (send.go) brings what the session subscribes to.
type connection struct {
	c    *Connector
	cl   *mochi.Client
	s    *session
	v5   bool
	will *message
	// willDelay is how long after its end the will is sent, in seconds.
	willDelay uint32

	queue  chan *item
	ctx    context.Context // of what it asks of Kafka; ends when the device was given up
	cancel context.CancelCauseFunc
	gone   bool // given up: nothing more is answered; the drain's own

	wake     chan struct{} // the sender has something to look at
	subbed   []subscribed  // of the SUBSCRIBE that is being served; the reader's own
	receives int           // QoS 1 and 2 messages that may be unacknowledged towards it

	user               string
	resumed, shortened bool // a session went on; its expiry is less than was asked for
	sending            bool // the reader's own

	mu                  sync.Mutex
	listening, detached bool
	out                 context.Context // of the sender; ends with the connection
	outCancel           context.CancelFunc
	endOnce             sync.Once
}

func newConnection(c *Connector, cl *mochi.Client) *connection {
	conn := &connection{
		c: c, cl: cl, v5: cl.Properties.ProtocolVersion == 5,
		queue: make(chan *item, window), wake: make(chan struct{}, 1), receives: maxInflight,
	}
	if n := int(cl.Properties.Props.ReceiveMaximum); conn.v5 && n > 0 {
		conn.receives = min(n, maxInflight)
	}
	conn.ctx, conn.cancel = context.WithCancelCause(c.ctx)
	conn.out, conn.outCancel = context.WithCancel(conn.ctx)
	return conn
}

// drain answers until the queue is closed and empty.
func (d *connection) drain() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer d.cancel(errStopped)
	for it := range d.queue {
		timer.Reset(time.Until(it.at.Add(d.c.cfg.AckTimeout)))
		select {
		case <-it.done:
			if !d.gone {
				d.answer(it)
			}
		case <-timer.C:
			d.giveUp(packets.ErrServerBusy, errNoAnswer)
		}
	}
}

var errNoAnswer = errors.New("the broker did not answer in time")

// answer acknowledges a stored message, or says no in the way the device's
// protocol allows.
func (d *connection) answer(it *item) {
	code, err := it.code, it.result()
	switch {
	case err == nil:
	case permanent(err):
		code = packets.ErrImplementationSpecificError
		d.c.refuse(d.cl.ID, it.pk.TopicName, badRecord)
	default:
		d.giveUp(packets.ErrServerBusy, err)
		return
	}
	if refused(code) && !it.release && !d.v5 {
		// MQTT 3.1.1 cannot say no: acknowledge or close (3.3.5-2). What is
		// not stored is never acknowledged.
		d.giveUp(code, nil)
		return
	}
	if err := d.write(it, code); err != nil {
		d.giveUp(packets.ErrServerBusy, nil)
		return
	}
	d.c.metrics.wait.Observe(time.Since(it.at).Seconds())
}

func refused(code packets.Code) bool { return code.Code >= packets.ErrUnspecifiedError.Code }

// write sends PUBACK, PUBREC or PUBCOMP.
func (d *connection) write(it *item, code packets.Code) error {
	ack := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Puback},
		PacketID:    it.pk.PacketID,
		ReasonCode:  code.Code,
	}
	switch {
	case it.release:
		ack.FixedHeader.Type = packets.Pubcomp
	case it.pk.FixedHeader.Qos == 2:
		ack.FixedHeader.Type = packets.Pubrec
	}
	if refused(code) {
		ack.Properties.ReasonString = code.Reason
	}
	return d.cl.WritePacket(ack)
}

// giveUp closes the connection without an answer: the device connects again
// and sends again what was not acknowledged. With an error of the broker,
// records that are not on their way yet are withdrawn, which also frees a
// reader that waits for room.
func (d *connection) giveUp(code packets.Code, why error) {
	d.gone = true
	if why != nil {
		if !d.cl.Closed() {
			d.c.metrics.unacked.Inc()
			d.c.log.Debug("device is disconnected to send again", "client", d.cl.ID, "error", why)
		}
		d.cancel(why)
	}
	d.c.disconnect(d.cl, code)
}

// disconnect ends a connection, with a word where the protocol has one.
func (c *Connector) disconnect(cl *mochi.Client, code packets.Code) {
	if cl.Properties.ProtocolVersion == 5 {
		_ = c.server.DisconnectClient(cl, code)
		return
	}
	cl.Stop(code) // MQTT 3 has no DISCONNECT from a server
}

func (d *connection) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// permanent tells an error that sending the same record again cannot mend.
func permanent(err error) bool {
	for _, p := range []error{kerr.MessageTooLarge, kerr.InvalidRecord, kerr.RecordListTooLarge} {
		if errors.Is(err, p) {
			return true
		}
	}
	return false
}
