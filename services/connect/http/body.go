package http

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// room bounds bytes of bodies that have arrived and are not stored yet: those
// of all callers, and those of each.
type room struct {
	all, each int64

	mu    sync.Mutex
	used  int64
	by    map[string]int64 // callers that have any
	freed chan struct{}    // closed when something is given back; nil: nobody waits
}

func newRoom(all, each int64) *room {
	return &room{all: all, each: each, by: map[string]int64{}}
}

// take waits for room, but not for long: false when there is none.
func (r *room) take(ctx context.Context, caller string, n int64) bool {
	freed := r.try(caller, n)
	if freed == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, roomWait)
	defer cancel()
	for ; freed != nil; freed = r.try(caller, n) {
		select {
		case <-freed:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// try takes room; where there is none it returns what tells of a change.
func (r *room) try(caller string, n int64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used+n > r.all || r.by[caller]+n > r.each {
		if r.freed == nil {
			r.freed = make(chan struct{})
		}
		return r.freed
	}
	r.used += n
	r.by[caller] += n
	return nil
}

func (r *room) give(caller string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
	if r.by[caller] -= n; r.by[caller] == 0 {
		delete(r.by, caller)
	}
	if r.freed != nil {
		close(r.freed)
		r.freed = nil
	}
}

// arriving is a body that takes room as it arrives: a client that promises
// much, or is slow, holds nothing of the others' meanwhile.
type arriving struct {
	ctx    context.Context
	r      io.Reader
	room   *room
	caller string
	most   int64
	held   int64 // what was read and not yet given back
}

var (
	errTooMuch = errors.New("it is too large")
	errNoRoom  = errors.New("there is no room for it now")
)

// Read implements io.Reader.
func (a *arriving) Read(b []byte) (int, error) {
	if a.held > a.most { // by the one byte that shows it
		return 0, errTooMuch
	}
	n, err := a.r.Read(b[:min(int64(len(b)), a.most+1-a.held)])
	if n > 0 && !a.room.take(a.ctx, a.caller, int64(n)) {
		return 0, errNoRoom
	}
	a.held += int64(n)
	return n, err
}

// leave gives back all that is held.
func (a *arriving) leave() {
	if a.held > 0 {
		a.room.give(a.caller, a.held)
		a.held = 0
	}
}

// body reads a request's body, which the caller gives back by free.
func (s *server) body(w http.ResponseWriter, r *http.Request, caller string) (data []byte, free func(), err error) {
	if r.ContentLength > s.maxBody {
		return nil, nil, tooLarge(s.maxBody)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyWait))
	a := &arriving{ctx: r.Context(), r: r.Body, room: s.bodies, caller: caller, most: s.maxBody}
	data, err = io.ReadAll(a)
	switch {
	case err == nil && a.held <= a.most:
		return data, a.leave, nil
	case err == nil || errors.Is(err, errTooMuch):
		err = tooLarge(s.maxBody)
	case errors.Is(err, errNoRoom):
		err = busy()
	default:
		err = &problem{http.StatusBadRequest, 40001, "the body cannot be read: " + err.Error()}
	}
	a.leave()
	return nil, nil, err
}

// stream is a body of one JSON value after the other.
type stream struct {
	*arriving
	src io.Reader
	dec *json.Decoder
	at  int64 // what dec has given
}

// maxKept of a decoder's buffer outlives the value that needed it.
const maxKept = 64 << 10

func newStream(a *arriving) *stream {
	return &stream{arriving: a, src: a, dec: json.NewDecoder(a)}
}

// next decodes a value; the room of its n bytes is the caller's to give back.
func (s *stream) next(v any) (n int64, err error) {
	if err := s.dec.Decode(v); err != nil {
		return 0, err
	}
	n = s.dec.InputOffset() - s.at
	s.held -= n
	s.at += n
	if n > maxKept {
		s.src = io.MultiReader(s.dec.Buffered(), s.src)
		s.dec, s.at = json.NewDecoder(s.src), 0
	}
	return n, nil
}

// maxRecords of one request: each takes far more memory than its bytes.
const maxRecords = 10_000

func tooMany(n int) *problem {
	return &problem{http.StatusRequestEntityTooLarge, 41302, fmt.Sprintf("%d records in one request, the most is %d", n, maxRecords)}
}
