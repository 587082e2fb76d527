package snmp

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// mostWaiting is how many bytes of informs may wait for the broker; what is
// beyond is not taken, and its sender tries again. It is less than what makes
// Box.Post block, which would hold up traps.
const mostWaiting = 1 << 20

// Receiver is one receiver of traps and informs of the profile.
type Receiver struct{ cfg site.SNMPTraps }

// NewReceiver takes a receiver of a checked profile.
func NewReceiver(cfg site.SNMPTraps) (connect.Connector, error) { return &Receiver{cfg: cfg}, nil }

// Run implements connect.Connector.
func (r *Receiver) Run(ctx context.Context, box *connect.Box) error {
	p, err := r.parser(box)
	if err != nil {
		return err
	}
	in := &informs{box: box, waiting: map[string]bool{}}
	// No inform waits longer than Run.
	post, cancel := context.WithCancel(ctx)
	defer in.wait.Wait()
	defer cancel()
	return box.Datagrams(ctx, r.cfg.Listen, func(pc net.PacketConn, b []byte, from net.Addr) {
		say := func(answer []byte, err error) {
			if err == nil {
				_, err = pc.WriteTo(answer, from)
			}
			if err != nil {
				box.Log().Debug("answer the sender of an inform", "sender", from, "error", err)
			}
		}
		if answer := p.ask(b); answer != nil {
			say(answer, nil)
			return
		}
		packet, err := p.packet(b)
		if err != nil {
			box.Dead(err.Error(), b, from.String())
			return
		}
		if refusal := p.refusal(packet); refusal != nil {
			say(refusal, nil)
			return
		}
		rec, err := p.record(packet, b, from, time.Now())
		switch {
		case err != nil:
			box.Dead(err.Error(), b, from.String())
		case packet.PDUType == gosnmp.InformRequest:
			in.take(post, rec, packet.RequestID, from, func() { say(p.answer(packet, b)) })
		default:
			_ = box.Spool(rec) // what cannot be a record is a dead letter
		}
	})
}

func (r *Receiver) parser(box *connect.Box) (*parser, error) {
	community := ""
	if r.cfg.Community != "" {
		var err error
		if community, err = box.Secret(r.cfg.Community); err != nil {
			return nil, err
		}
	}
	p := newParser(box.Site()+"/"+box.Name(), community, r.cfg.Records.Format == site.FormatRaw)
	for i := range r.cfg.Users {
		sp, flags, err := user(box, &r.cfg.Users[i])
		if err == nil {
			err = p.add(sp, flags)
		}
		if err != nil {
			return nil, fmt.Errorf("user %s: %v", r.cfg.Users[i].Name, err)
		}
	}
	return p, nil
}

// informs are acknowledged when the broker has them on disk. Until then their
// senders send them again, and what comes again is not taken twice.
type informs struct {
	box  *connect.Box
	wait sync.WaitGroup

	mu      sync.Mutex
	waiting map[string]bool // by sender and request
	bytes   int
}

// take has an inform stored, then answered.
func (in *informs) take(ctx context.Context, rec connect.Record, request uint32, from net.Addr, answer func()) {
	key := fmt.Sprintf("%s %d", from, request)
	if !in.begin(key, len(rec.Value)) {
		return
	}
	in.wait.Add(1)
	in.box.Post(ctx, rec, func(err error) {
		defer in.wait.Done()
		in.end(key, len(rec.Value))
		if err == nil {
			answer()
		}
	})
}

func (in *informs) begin(key string, n int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.waiting[key] || in.bytes > 0 && in.bytes+n > mostWaiting {
		return false
	}
	in.waiting[key] = true
	in.bytes += n
	return true
}

func (in *informs) end(key string, n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.waiting, key)
	in.bytes -= n
}
