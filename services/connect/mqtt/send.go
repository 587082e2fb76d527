package mqtt

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// sendBatch bounds the messages that share one write of the state.
const sendBatch = 64

// outwork is what the sender does next.
type outwork struct {
	publish []queued
	ids     []uint16 // of publish; 0 for QoS 0
	release []uint16
	unknown []uint16
	durable bool // the position must be on disk before anything is written
}

// send brings messages to the client until its connection ends.
func (d *connection) send() {
	save := time.NewTicker(positionEvery)
	defer save.Stop()
	for {
		for {
			w, behind := d.s.work(d)
			if len(w.publish)+len(w.release)+len(w.unknown) > 0 {
				if !d.do(w) {
					return
				}
				continue
			}
			if !behind {
				break
			}
			if !d.follow() {
				break
			}
		}
		select {
		case <-d.wake:
		case <-save.C:
			d.s.mu.Lock()
			changed := d.s.out.changed && d.s.expiry > 0
			d.s.mu.Unlock()
			if changed {
				d.s.savePosition(nil)
			}
		case <-d.out.Done():
			return
		}
	}
}

// work takes what may be sent now. behind says that the queue has room and
// the log has more.
func (s *session) work(d *connection) (w outwork, behind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.out
	if s.conn != d {
		return w, false
	}
	w.unknown, o.unknown = o.unknown, nil
	for _, id := range o.records {
		if g := o.sent[id]; g != nil {
			if !g.released {
				g.released, g.m = true, nil // counts until PUBCOMP (3.3.4-9)
			}
			w.release = append(w.release, id)
		}
	}
	o.records = nil
	w.durable = len(w.release) > 0
	o.retained = s.take(d, o.retained, &w)
	if len(o.retained) == 0 {
		o.queue = s.take(d, o.queue, &w)
	}
	w.durable = w.durable && s.expiry > 0
	return w, !o.live && len(o.queue) == 0 && len(o.retained) == 0
}

// take moves messages from a queue to the work, as far as the window goes.
// Called with mu held.
func (s *session) take(d *connection, from []queued, w *outwork) []queued {
	o, now := &s.out, time.Now()
	for len(from) > 0 && len(w.publish) < sendBatch {
		q := from[0]
		id := uint16(0)
		switch {
		case q.outward != nil:
			id = q.outward.id
		case q.m.expired(now):
			q.m = &message{}
		case q.qos > 0:
			if o.waiting >= d.receives {
				return from
			}
			if id = o.nextID(); id == 0 {
				return from
			}
			g := &outgoing{id: id, qos: q.qos, at: q.m.at, share: q.share}
			if q.kept {
				g.retained = q.m.topic
			}
			if q.share != "" {
				g.m = q.m
			}
			o.sent[id] = g
			o.waiting++
			if q.qos == 2 {
				w.durable = true
				if at := q.m.at; at.topic != "" && q.share == "" {
					o.once[at.part] = max(o.once[at.part], at.offset+1)
				}
			}
		}
		if !q.kept {
			n := from[0].m.size()
			o.bytes -= n
			s.c.giveRoom(n)
		}
		from = from[1:]
		if q.m.topic != "" {
			w.publish, w.ids = append(w.publish, q), append(w.ids, id)
		}
	}
	if len(from) == 0 {
		return nil
	}
	return from
}

// do writes what work has taken; false means that the connection is at its
// end. What must not happen twice is on disk before it happens.
func (d *connection) do(w outwork) bool {
	if w.durable {
		done := make(chan error, 1)
		d.s.savePosition(func(err error) { done <- err })
		select {
		case err := <-done:
			if err != nil {
				d.c.disconnect(d.cl, packets.ErrServerBusy)
				return false
			}
		case <-d.out.Done():
			return false
		}
	}
	for i, q := range w.publish {
		pk := q.m.packet(q.qos, w.ids[i], q.retain || q.kept, q.outward != nil, q.ids)
		if err := d.cl.WritePacket(pk); err != nil && !d.tooLarge(err, w.ids[i]) {
			return d.lost()
		}
	}
	for _, id := range w.release {
		if err := d.cl.WritePacket(pubrel(id, packets.CodeSuccess)); err != nil {
			return d.lost()
		}
	}
	for _, id := range w.unknown {
		if err := d.cl.WritePacket(pubrel(id, packets.ErrPacketIdentifierNotFound)); err != nil {
			return d.lost()
		}
	}
	return true
}

// tooLarge lets go of a message that is larger than what the client takes
// (3.1.2-25).
func (d *connection) tooLarge(err error, id uint16) bool {
	if err != packets.ErrPacketTooLarge {
		return false
	}
	d.c.metrics.dropped.Inc()
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if g := d.s.out.sent[id]; g != nil {
		d.s.out.drop(g)
	}
	return true
}

func (d *connection) lost() bool {
	d.cl.Stop(packets.ErrUnspecifiedError)
	return false
}

func pubrel(id uint16, code packets.Code) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1},
		PacketID:    id, ReasonCode: code.Code,
	}
}

// acknowledged takes a client's answer to a message: PUBACK, PUBREC or
// PUBCOMP.
func (s *session) acknowledged(d *connection, pk packets.Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.out
	g := o.sent[pk.PacketID]
	refused := d.v5 && pk.ReasonCode >= packets.ErrUnspecifiedError.Code
	switch {
	case pk.FixedHeader.Type == packets.Pubrec && (g == nil || g.qos != 2):
		if !refused && len(o.unknown) < maxInflight {
			o.unknown = append(o.unknown, pk.PacketID)
		}
	case g == nil:
	case pk.FixedHeader.Type == packets.Pubrec && !refused:
		if len(o.records) >= 2*maxInflight {
			break // the same ones over and over
		}
		o.records = append(o.records, pk.PacketID)
	case pk.FixedHeader.Type == packets.Puback && g.qos == 1,
		pk.FixedHeader.Type == packets.Pubrec,
		pk.FixedHeader.Type == packets.Pubcomp && g.released:
		o.drop(g)
	}
	d.nudge()
}
