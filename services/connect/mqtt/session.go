package mqtt

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kerr"
)

// item is a QoS 1 or 2 message that its device waits for.
type item struct {
	pk   packets.Packet
	at   time.Time
	code packets.Code  // answer, if not success
	err  error         // of the broker; read after done
	done chan struct{} // closed when the broker has answered, or nothing was asked
}

// session is one connection of a device. Its reader (the library's) sends
// messages to Kafka as they come, many at once; its drain answers them in the
// order they came, as MQTT demands (4.6.0-2), each after Kafka has answered.
type session struct {
	c     *Connector
	cl    *mochi.Client
	local *mochi.Client // publishes to local subscribers in the device's name

	queue  chan *item
	ctx    context.Context // of the records; ends when the device was given up
	cancel context.CancelCauseFunc
	gone   bool // given up: nothing more is answered; the drain's own
}

func (c *Connector) open(cl *mochi.Client) {
	s := &session{c: c, cl: cl, queue: make(chan *item, window)}
	s.ctx, s.cancel = context.WithCancelCause(c.ctx)
	s.local = c.server.NewClient(nil, c.ln.ID(), cl.ID, true)
	s.local.Properties.ProtocolVersion = cl.Properties.ProtocolVersion
	c.mu.Lock()
	c.sessions[cl] = s
	c.mu.Unlock()
	c.drains.Go(s.drain)
}

func (c *Connector) close(cl *mochi.Client) {
	c.mu.Lock()
	s := c.sessions[cl]
	delete(c.sessions, cl)
	c.mu.Unlock()
	if s != nil {
		close(s.queue) // the reader, its only sender, has ended
	}
}

func (c *Connector) session(cl *mochi.Client) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[cl]
}

// drain answers until the queue is closed and empty.
func (s *session) drain() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer s.cancel(errStopped)
	for it := range s.queue {
		timer.Reset(time.Until(it.at.Add(s.c.cfg.AckTimeout)))
		select {
		case <-it.done:
			if !s.gone {
				s.answer(it)
			}
		case <-timer.C:
			s.giveUp(packets.ErrServerBusy, errNoAnswer)
		}
	}
}

var errNoAnswer = errors.New("the broker did not answer in time")

// answer acknowledges a stored message and then gives it to local
// subscribers, or says no in the way the device's protocol allows.
func (s *session) answer(it *item) {
	switch {
	case it.err == nil:
	case permanent(it.err):
		it.code = packets.ErrImplementationSpecificError
		s.c.refuse(s.cl.ID, it.pk.TopicName, badRecord)
	default:
		s.giveUp(packets.ErrServerBusy, it.err)
		return
	}
	refused := it.code.Code >= packets.ErrUnspecifiedError.Code
	if refused && s.cl.Properties.ProtocolVersion < 5 {
		// MQTT 3.1.1 cannot say no: acknowledge or close (3.3.5-2). What is
		// not stored is never acknowledged.
		s.giveUp(it.code, nil)
		return
	}
	if err := s.write(it); err != nil {
		s.giveUp(packets.ErrServerBusy, nil)
		return
	}
	s.c.metrics.wait.Observe(time.Since(it.at).Seconds())
	if !refused {
		s.deliver(it.pk)
	}
}

// write sends PUBACK or PUBREC.
func (s *session) write(it *item) error {
	ack := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Puback},
		PacketID:    it.pk.PacketID,
		ReasonCode:  it.code.Code,
		Created:     time.Now().Unix(),
	}
	if it.code.Code >= packets.ErrUnspecifiedError.Code {
		ack.Properties.ReasonString = it.code.Reason
	}
	if it.pk.FixedHeader.Qos == 2 {
		ack.FixedHeader.Type = packets.Pubrec
		if ack.ReasonCode == packets.CodeSuccess.Code {
			// The library answers PUBREL, and PUBLISH of the same id before
			// it, by what is in flight.
			if s.cl.State.Inflight.Set(ack) {
				atomic.AddInt64(&s.c.server.Info.Inflight, 1)
			}
			s.cl.State.Inflight.DecreaseReceiveQuota() // PUBREL gives it back
		}
	}
	conn := s.cl.Net.Conn
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	defer conn.SetWriteDeadline(time.Time{})
	return s.cl.WritePacket(ack)
}

// deliver gives a message to local subscribers and keeps it if it is
// retained.
func (s *session) deliver(pk packets.Packet) {
	pk.FixedHeader.Retain = pk.FixedHeader.Retain && s.c.mayRetain(pk)
	if err := s.c.server.InjectPacket(s.local, pk); err != nil {
		s.c.log.Debug("deliver to local subscribers", "topic", pk.TopicName, "error", err)
	}
}

// giveUp closes the connection without an answer: the device connects again
// and sends again what was not acknowledged. With an error of the broker,
// records that are not on their way yet are withdrawn, which also frees a
// reader that waits for room.
func (s *session) giveUp(code packets.Code, why error) {
	s.gone = true
	if why != nil {
		if !s.cl.Closed() {
			s.c.metrics.unacked.Inc()
			s.c.log.Debug("device is disconnected to send again", "client", s.cl.ID, "error", why)
		}
		s.cancel(why)
	}
	if s.cl.Properties.ProtocolVersion == 5 {
		_ = s.c.server.DisconnectClient(s.cl, code)
		return
	}
	s.cl.Stop(code) // MQTT 3 has no DISCONNECT from a server
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
