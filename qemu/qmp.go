package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Event is something QEMU reported by itself: "SHUTDOWN", "RESET",
// "WATCHDOG", … with its data as JSON.
type Event struct {
	Name string
	Data json.RawMessage
}

// qmp is a client of QEMU's control protocol (docs/interop/qmp-spec in QEMU's
// tree). One reader goroutine owns the connection's input; done is closed
// when it has ended.
type qmp struct {
	conn net.Conn
	enc  *json.Encoder

	mu      sync.Mutex
	next    int
	waiting map[int]chan qmpReply
	events  []Event
	changed chan struct{} // closed at every event

	done chan struct{}
}

type qmpReply struct {
	result json.RawMessage
	err    error
}

// qmpMessage is anything that QEMU sends.
type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	ID       *int            `json:"id"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

var errControlClosed = errors.New("QEMU closed its control socket")

// openQMP waits for the greeting and leaves negotiation mode. It takes over
// conn, also when it fails.
func openQMP(ctx context.Context, conn net.Conn) (*qmp, error) {
	q := &qmp{
		conn: conn, enc: json.NewEncoder(conn),
		waiting: map[int]chan qmpReply{}, changed: make(chan struct{}), done: make(chan struct{}),
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	dec := json.NewDecoder(conn)
	var hello qmpMessage
	if err := dec.Decode(&hello); err != nil || hello.Greeting == nil {
		conn.Close()
		return nil, fmt.Errorf("wait for QEMU's greeting: %w", errors.Join(ctx.Err(), errControlClosed))
	}
	go q.read(dec)
	if err := q.execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

// close ends the reader and waits for it.
func (q *qmp) close() {
	q.conn.Close()
	<-q.done
}

func (q *qmp) read(dec *json.Decoder) {
	defer close(q.done)
	for {
		var m qmpMessage
		if dec.Decode(&m) != nil {
			q.mu.Lock()
			defer q.mu.Unlock()
			for id, ch := range q.waiting {
				ch <- qmpReply{err: errControlClosed}
				delete(q.waiting, id)
			}
			return
		}
		q.dispatch(m)
	}
}

func (q *qmp) dispatch(m qmpMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if m.Event != "" {
		q.events = append(q.events, Event{m.Event, m.Data})
		close(q.changed)
		q.changed = make(chan struct{})
		return
	}
	if m.ID == nil || q.waiting[*m.ID] == nil {
		return
	}
	reply := qmpReply{result: m.Return}
	if m.Error != nil {
		reply.err = errors.New(m.Error.Desc)
	}
	q.waiting[*m.ID] <- reply
	delete(q.waiting, *m.ID)
}

// execute runs one command; args and result may be nil.
func (q *qmp) execute(ctx context.Context, command string, args, result any) error {
	ch, err := q.send(command, args)
	if err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	select {
	case reply := <-ch:
		if reply.err != nil {
			return fmt.Errorf("QMP %s: %w", command, reply.err)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(reply.result, result)
	case <-ctx.Done():
		return fmt.Errorf("QMP %s: %w", command, ctx.Err())
	case <-q.done:
		return fmt.Errorf("QMP %s: %w", command, errControlClosed)
	}
}

func (q *qmp) send(command string, args any) (<-chan qmpReply, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.next++
	ch := make(chan qmpReply, 1)
	q.waiting[q.next] = ch
	m := map[string]any{"execute": command, "id": q.next}
	if args != nil {
		m["arguments"] = args
	}
	if err := q.enc.Encode(m); err != nil {
		delete(q.waiting, q.next)
		return nil, errControlClosed
	}
	return ch, nil
}

// expect waits for an event of that name at or after *pos and moves pos
// behind it.
func (q *qmp) expect(ctx context.Context, name string, pos *int) (Event, error) {
	for {
		q.mu.Lock()
		for ; *pos < len(q.events); *pos++ {
			if e := q.events[*pos]; e.Name == name {
				*pos++
				q.mu.Unlock()
				return e, nil
			}
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("expect QEMU event %s: %w", name, ctx.Err())
		case <-q.done:
			return Event{}, fmt.Errorf("expect QEMU event %s: %w", name, errControlClosed)
		}
	}
}

// last is the newest event of that name.
func (q *qmp) last(name string) (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := len(q.events) - 1; i >= 0; i-- {
		if q.events[i].Name == name {
			return q.events[i], true
		}
	}
	return Event{}, false
}
