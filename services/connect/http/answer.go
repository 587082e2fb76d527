package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Media types of the REST interface, v2; v3 is application/json.
const (
	typeV2     = "application/vnd.kafka.v2+json"
	typeJSON   = "application/vnd.kafka.json.v2+json"
	typeBinary = "application/vnd.kafka.binary.v2+json"
	typePlain  = "application/json"
)

// problem is an error as Confluent's documentation has it: HTTP status, error
// code and message.
type problem struct {
	status, code int
	text         string
}

func (p *problem) Error() string { return p.text }

func bad(code int, format string, a ...any) *problem {
	return &problem{http.StatusUnprocessableEntity, code, fmt.Sprintf(format, a...)}
}

func tooLarge(most int64) *problem {
	return &problem{http.StatusRequestEntityTooLarge, 41301, fmt.Sprintf("the body is larger than %d bytes", most)}
}

func busy() *problem {
	return &problem{http.StatusServiceUnavailable, 50301, "too much is being stored; try again"}
}

// later is a 429.
type later struct{ wait time.Duration }

func (l *later) Error() string { return "too many records; see Retry-After" }

var errNoTopic = &problem{http.StatusNotFound, 40401, "Topic not found."}

// fail answers an error in the way of the interface that was asked.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	var l *later
	switch {
	case errors.As(err, &l):
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(l.wait.Seconds()))))
		p = &problem{http.StatusTooManyRequests, 42901, l.Error()}
	case errors.As(err, &p):
	default:
		p = kafkaProblem(err)
	}
	if p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	code := p.code
	if strings.HasPrefix(r.URL.Path, "/v3/") {
		code = v3Code(p)
	}
	answer(w, r, p.status, map[string]any{"error_code": code, "message": p.text})
}

// v3Code: v3 has the status as error code but for a few.
func v3Code(p *problem) int {
	switch p.code {
	case 40401:
		return 40403 // "This server does not host this topic-partition."
	case 40002, 40003:
		return p.code
	}
	return p.status
}

// kafkaProblem is what the broker says.
func kafkaProblem(err error) *problem {
	var k *kerr.Error
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return errNoTopic
	case errors.As(err, &k) && !k.Retriable:
		return &problem{http.StatusBadRequest, 40002, k.Message}
	}
	return &problem{http.StatusServiceUnavailable, 50003, "the broker does not answer: " + err.Error()}
}

// answer writes v as JSON, v2 or v3 by the path.
func answer(w http.ResponseWriter, r *http.Request, status int, v any) {
	kind := typePlain
	if strings.HasPrefix(r.URL.Path, "/topics") || strings.HasPrefix(r.URL.Path, "/consumers") || r.URL.Path == "/brokers" {
		kind = typeV2
	}
	send(w, status, kind, v)
}

func send(w http.ResponseWriter, status int, kind string, v any) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client is gone, if not
}

// decode reads a body that must be one JSON object.
func decode(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return &problem{http.StatusBadRequest, 400, "the body is no JSON that is understood: " + err.Error()}
	}
	return nil
}

// media is a content type without its parameters.
func media(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(s))
}
