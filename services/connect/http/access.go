package http

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/site"
)

// caller is who sent a request.
type caller struct {
	name   string   // of the profile, or the address where everybody may call
	topics []string // patterns
}

// who finds the caller; nil if it is none that the profile knows.
func (s *server) who(r *http.Request) *caller {
	if len(s.cfg.Clients) == 0 {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		return &caller{name: host, topics: s.cfg.Topics}
	}
	for i := range s.cfg.Clients {
		if c := &s.cfg.Clients[i]; s.is(r, c) {
			topics := c.Topics
			if len(topics) == 0 {
				topics = s.cfg.Topics
			}
			return &caller{name: c.Name, topics: topics}
		}
	}
	return nil
}

func (s *server) is(r *http.Request, c *site.HTTPClient) bool {
	user, password, basic := r.BasicAuth()
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case c.Password != "" && basic:
		return user == c.Name && s.same(c.Password, password)
	case c.Token != "" && bearer:
		return s.same(c.Token, token)
	case c.Certificate != "" && r.TLS != nil && len(r.TLS.VerifiedChains) > 0:
		return r.TLS.VerifiedChains[0][0].Subject.CommonName == c.Certificate
	}
	return false
}

// same compares what was given with what is in a secret file, in a time that
// says nothing of it.
func (s *server) same(file, given string) bool {
	want, err := s.box.Secret(file)
	if err != nil {
		s.log.Warn("client cannot log in", "error", err)
		return false
	}
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// may says whether a topic is one of the caller's. Topics that the box keeps
// for itself are nobody's.
func (c *caller) may(topic string) bool {
	if strings.HasPrefix(topic, "__") || strings.HasPrefix(topic, "wayside-") {
		return false
	}
	return slices.ContainsFunc(c.topics, func(p string) bool { return site.Matches(p, topic) })
}

// handle is a route of the REST interface.
type handle func(w http.ResponseWriter, r *http.Request, c *caller) error

// known asks who calls and answers h's error.
func (s *server) known(h handle) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := s.who(r)
		if c == nil {
			w.Header().Set("WWW-Authenticate", `Basic realm="box"`)
			s.fail(w, r, &problem{http.StatusUnauthorized, 40101, "Authentication failed."})
			return
		}
		if err := h(w, r, c); err != nil {
			s.fail(w, r, err)
		}
	}
}

// rates is a bucket of records for each caller.
type rates struct {
	perSecond float64
	mu        sync.Mutex
	buckets   map[string]*bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// maxBuckets bounds callers that are remembered; a forgotten one begins with
// a full bucket.
const maxBuckets = 4096

// take takes n records off a caller's bucket; wait is when to come again if
// there are not so many. More than a bucket holds are taken when it is full.
func (r *rates) take(name string, n int) (wait time.Duration) {
	now, burst := time.Now(), 2*r.perSecond
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.buckets[name]
	if b == nil {
		if r.buckets == nil || len(r.buckets) >= maxBuckets {
			r.buckets = map[string]*bucket{}
		}
		b = &bucket{left: burst, at: now}
		r.buckets[name] = b
	}
	b.left = min(burst, b.left+now.Sub(b.at).Seconds()*r.perSecond)
	b.at = now
	want := min(float64(n), burst)
	if b.left < want {
		return time.Duration((want - b.left) / r.perSecond * float64(time.Second))
	}
	b.left -= float64(n) // below nothing for more than a bucket: it is paid later
	return 0
}
