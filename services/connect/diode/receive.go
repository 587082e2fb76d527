package diode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/diode/wire"
	"github.com/waysideos/wayside/services/site"
)

const (
	// patience is how long a block that lacks datagrams may hold up those
	// behind it: networks put datagrams out of order by milliseconds.
	patience  = 300 * time.Millisecond
	lookEvery = 100 * time.Millisecond
	lastLook  = 10 * time.Millisecond
	lastLooks = 200 * time.Millisecond
	// keepEvery is how often the position is kept. It matters only where
	// sender and receiver both start anew within that time: records between
	// come twice then.
	keepEvery = 5 * time.Second
	// quietAfter is when a sender that tells its position each second is
	// thought to be away.
	quietAfter = 10 * time.Second
	// socketBuffer holds what comes while the box does something else.
	socketBuffer = 4 << 20
)

// Receiver is the side that gets the records.
type Receiver struct{ cfg site.DiodeReceive }

// NewReceiver prepares the receiver of an entry of the profile.
func NewReceiver(cfg site.DiodeReceive) (connect.Connector, error) { return &Receiver{cfg: cfg}, nil }

// Run implements connect.Connector.
func (r *Receiver) Run(ctx context.Context, box *connect.Box) error {
	var key string
	if r.cfg.Key != "" {
		var err error
		if key, err = box.Secret(r.cfg.Key); err != nil {
			return err
		}
	}
	conn, err := box.ListenPacket(r.cfg.Listen)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	if u, ok := conn.(*net.UDPConn); ok {
		_ = u.SetReadBuffer(socketBuffer) // the kernel gives what it may
	}
	in := &inlet{box: box, next: newPlaces(), heard: time.Now()}
	in.unpack = &wire.Unpacker{Key: []byte(key), Patience: patience, Record: in.record, Position: in.position}
	if err := in.restore(ctx); err != nil {
		return err
	}
	err = in.read(ctx, conn)
	in.keep(context.WithoutCancel(ctx))
	return err
}

// inlet is the link as the receiver has it.
type inlet struct {
	box    *connect.Box
	unpack *wire.Unpacker
	next   *places

	records, twice, lost int64
	heard                time.Time // a good datagram
	complained           time.Time // of a bad one
	kept, shown          time.Time
	changed              bool // since next was kept
}

func (in *inlet) read(ctx context.Context, conn net.PacketConn) error {
	buf := make([]byte, 64<<10)
	ended := time.Time{} // ctx, after which what is here already is still taken: nobody sends it again
	for {
		wait := lookEvery
		if ctx.Err() != nil {
			wait = lastLook
		}
		_ = conn.SetReadDeadline(time.Now().Add(wait))
		n, from, err := conn.ReadFrom(buf)
		now := time.Now()
		if ctx.Err() != nil && ended.IsZero() {
			ended = now
		}
		switch {
		case err == nil:
			in.datagram(buf[:n], from, now)
		case ctx.Err() != nil && wait == lastLook:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			in.unpack.Advance(now)
		default:
			return fmt.Errorf("receive: %w", err)
		}
		if !ended.IsZero() && now.Sub(ended) > lastLooks {
			return ctx.Err()
		}
		if now.Sub(in.kept) > keepEvery && in.changed {
			in.keep(ctx)
		}
		in.show(now)
	}
}

// datagram takes one. Those that are of no use are all counted, and one a
// second is a dead letter: anybody may send any number of them.
func (in *inlet) datagram(b []byte, from net.Addr, now time.Time) {
	err := in.unpack.Datagram(b, now)
	if err == nil {
		in.heard = now
		return
	}
	if now.Sub(in.complained) >= time.Second {
		in.complained = now
		in.box.Dead("datagram: "+err.Error(), append([]byte{}, b...), from.String())
	}
}

func (in *inlet) record(r wire.Record) {
	at := place{r.Topic, r.Partition}
	next, known := in.next.of(at)
	if known && r.Offset < next {
		in.twice++ // the sender began anew and did not know that it had sent it
		return
	}
	in.miss(at, r.Prev)
	in.next.set(at, r.Offset+1)
	in.changed = true
	in.records++
	rec := connect.Record{
		Key: r.Key, Value: r.Value, Time: time.UnixMilli(r.Time),
		Values: map[string]string{"topic": r.Topic, "partition": strconv.Itoa(int(r.Partition))},
	}
	for _, h := range r.Headers {
		rec.Headers = append(rec.Headers, connect.Header{Key: h.Key, Value: h.Value})
	}
	_ = in.box.Spool(rec) // what can never be a record is a dead letter by now
}

func (in *inlet) position(topic string, partition int32, offset int64) {
	at := place{topic, partition}
	in.miss(at, offset)
	if next, known := in.next.of(at); !known || offset > next {
		in.next.set(at, offset)
		in.changed = true
	}
}

// miss tells of what should have come before offset and did not.
func (in *inlet) miss(at place, offset int64) {
	next, known := in.next.of(at)
	if !known || offset <= next {
		return
	}
	in.lost += offset - next
	in.box.Dead(fmt.Sprintf("lost on the way: %s, partition %d, offsets %d to %d", at.topic, at.partition, next, offset-1), nil, at.topic)
}

// show tells how the link does.
func (in *inlet) show(now time.Time) {
	if now.Sub(in.shown) < time.Second {
		return
	}
	in.shown = now
	if quiet := now.Sub(in.heard); quiet > quietAfter {
		in.box.Trouble(fmt.Errorf("nothing has come since %s", in.heard.UTC().Format(time.RFC3339)))
		return
	}
	s := in.unpack.Stats
	in.box.Up(fmt.Sprintf("%d records, %d lost, %d twice; %d of %d blocks repaired, %d lost; %d datagrams of no use",
		in.records, in.lost, in.twice, s.Repaired, s.Blocks, s.LostBlocks, s.Bad))
}

// kept is a position as it is written: format 1, in JSON.
type kept struct {
	Version    int         `json:"version"`
	Partitions []keptPlace `json:"partitions"`
}

type keptPlace struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Next      int64  `json:"next"`
}

func (in *inlet) restore(ctx context.Context) error {
	data, err := in.box.Position(ctx)
	if err != nil || data == nil {
		return err
	}
	var k kept
	if err := json.Unmarshal(data, &k); err != nil || k.Version != 1 {
		in.box.Log().Warn("the kept position is of another version: what the sender repeats is taken twice", "version", k.Version, "error", err)
		return nil
	}
	for _, p := range k.Partitions {
		in.next.set(place{p.Topic, p.Partition}, p.Next)
	}
	return nil
}

// keep writes the position. A broker that is away does not stop the link.
func (in *inlet) keep(ctx context.Context) {
	in.kept = time.Now()
	k := kept{Version: 1}
	for at, p := range in.next.by {
		k.Partitions = append(k.Partitions, keptPlace{at.topic, at.partition, p.next})
	}
	data, err := json.Marshal(k)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := in.box.Commit(ctx, data); err != nil {
		in.box.Log().Debug("position is not kept", "error", err)
		return
	}
	in.changed = false
}
