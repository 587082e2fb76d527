package console

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

func (s *Server) handler(policy string) http.Handler {
	mux := http.NewServeMux()
	page := func(pattern, name string, h http.HandlerFunc) {
		hits := s.pages.WithLabelValues(name)
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			hits.Inc()
			h(w, r)
		})
	}
	metrics := promhttp.HandlerFor(prometheus.GathererFunc(s.gather.metrics), promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	})
	page("GET /{$}", "page", s.page)
	page("GET /healthz", "healthz", s.healthz)
	page("GET /status", "status", s.status)
	page("GET /metrics", "metrics", metrics.ServeHTTP)
	page("GET /update", "update", s.updates.state)
	page("GET "+manifest.UpdateRepo+"{file...}", "repo", s.updates.repo)
	for _, verb := range []string{"refresh", "prepare", "activate", "reboot", "retry"} {
		page("POST /update/"+verb, "update-verb", func(w http.ResponseWriter, r *http.Request) { s.updates.verb(w, r, verb) })
	}
	for _, path := range []string{"/links", "/links/{name}", "/links/{name}/offsets"} {
		page("GET "+path, "links", s.links.proxy.ServeHTTP)
	}
	for _, verb := range []string{"pause", "resume", "rewind"} {
		page("POST /links/{name}/"+verb, "link-verb", s.links.verb)
	}
	page("GET /site", "site", s.updates.profile)
	page("POST /site", "site-verb", s.updates.applyProfile)
	return limited(secured(mux, policy))
}

// limited bounds what a request may bring.
func limited(next http.Handler) http.Handler {
	const usual = 4 << 10 // bytes
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		most := int64(usual)
		if r.Method == http.MethodPost && r.URL.Path == "/site" {
			most = site.MaxSize + 1
		}
		http.MaxBytesHandler(next, most).ServeHTTP(w, r)
	})
}

// secured sets on every answer what keeps a page with a box's inside off
// other sites' hands: no scripts, no frames, no foreign content, no caches.
func secured(next http.Handler, policy string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	var buf bytes.Buffer
	if err := render(&buf, s.gather.look()); err != nil {
		s.cfg.Log.Error("render page", "error", err)
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = buf.WriteTo(w)
}

// health is the answer to GET /healthz.
type health struct {
	OK      bool     `json:"ok"`
	Reasons []string `json:"reasons,omitempty"`
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	snap := s.gather.look()
	answer, code := health{OK: snap.OK}, http.StatusOK
	if !snap.OK {
		code = http.StatusServiceUnavailable
	}
	for _, f := range snap.Findings {
		if f.Level == Failing {
			answer.Reasons = append(answer.Reasons, f.Text)
		}
	}
	writeJSON(w, code, answer)
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.gather.look())
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}
