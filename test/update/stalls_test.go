package update

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// stalls has the server stand still in the middle of an answer. The update goes
// on behind what it has, or ends with the reason and is finished by a later try.
func (u *updates) stalls(name string) {
	u.t.Helper()
	begin := time.Now()
	s := &staller{part: "timestamp.json", times: 1 << 30}
	u.site.as("", s.serve)
	u.refuses(name, "refresh", "the server has sent nothing to speak of for 30s")
	u.site.as("", nil)
	u.verb("refresh")
	u.t.Logf("%-46s %3.0f s  given up, and refreshed by the next try", name+", always", time.Since(begin).Seconds())
	begin = time.Now()
	s = &staller{part: ".root.pack", times: 1}
	u.site.as("", s.serve)
	u.verb("prepare")
	u.site.as("", nil)
	if !s.resumed() {
		u.t.Errorf("%s: the box did not go on where it was: %+v", name, s)
	}
	u.t.Logf("%-46s %3.0f s  it went on from byte %d", name+", once", time.Since(begin).Seconds(), s.next)
}

// staller sends half of what is asked for of the files whose path holds part,
// and then nothing, so many times.
type staller struct {
	part  string
	times int

	mu    sync.Mutex
	first int64 // of the bytes that the stalled answer was for
	next  int64 // of those that were asked for next
}

func (s *staller) serve(w http.ResponseWriter, r *http.Request, files http.Handler) {
	if !strings.Contains(r.URL.Path, s.part) {
		files.ServeHTTP(w, r)
		return
	}
	var from int64
	_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
	s.mu.Lock()
	stall := s.times > 0
	if s.times--; stall {
		s.first = from
	} else if s.next == 0 {
		s.next = from
	}
	s.mu.Unlock()
	if !stall {
		files.ServeHTTP(w, r)
		return
	}
	rec := httptest.NewRecorder()
	files.ServeHTTP(rec, r)
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	_, _ = w.Write(half(rec.Body.Bytes()))
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// resumed says whether the box went on behind what it was sent.
func (s *staller) resumed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next > s.first
}
