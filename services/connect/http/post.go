package http

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"net/http"
	"strings"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// routePost is a path of the profile. POST and PUT mean the same.
func (s *server) routePost(mux *http.ServeMux, p *site.HTTPPost) {
	path := p.Path
	if start, below := strings.CutSuffix(path, "/*"); below {
		path = start + "/{path...}"
	}
	h := func(w http.ResponseWriter, r *http.Request, c *caller) error { return s.post(w, r, c, p) }
	if p.Webhook != nil {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r, &caller{name: p.Path}); err != nil {
				s.fail(w, r, err)
			}
		})
		return
	}
	mux.HandleFunc("POST "+path, s.known(h))
	mux.HandleFunc("PUT "+path, s.known(h))
}

// post makes records of a body. The answer comes when all of them are on the
// broker's disk; an error means that some may not be, and to send all again.
func (s *server) post(w http.ResponseWriter, r *http.Request, c *caller, p *site.HTTPPost) error {
	data, free, err := s.body(w, r, c.name)
	if err != nil {
		return err
	}
	defer free()
	if p.Webhook != nil {
		if err := s.signed(p.Webhook, r, data); err != nil {
			return err
		}
	}
	values := [][]byte{data}
	if p.Lines {
		values = lines(data)
	}
	if len(values) > maxRecords {
		return tooMany(len(values))
	}
	for i, v := range values {
		if p.JSON && !json.Valid(v) {
			return &problem{http.StatusBadRequest, 40003, fmt.Sprintf("record %d is no JSON", i)}
		}
	}
	if wait := s.rates.take(c.name, len(values)); wait > 0 {
		return &later{wait}
	}
	path := r.PathValue("path")
	if path == "" {
		path = strings.TrimPrefix(p.Path, "/")
	}
	rs := make([]connect.Record, len(values))
	for i, v := range values {
		rs[i] = s.box.Template(p.Topic, p.Key, connect.Record{Value: v, Values: map[string]string{"path": path, "client": c.name}})
		rs[i].Headers = append(rs[i].Headers, connect.Header{Key: "source", Value: []byte(c.name)})
		if t := r.Header.Get("Content-Type"); t != "" {
			rs[i].Headers = append(rs[i].Headers, connect.Header{Key: "content-type", Value: []byte(t)})
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeWait)
	defer cancel()
	if err := s.box.Send(ctx, rs...); err != nil {
		return kafkaProblem(err)
	}
	answer(w, r, http.StatusOK, map[string]int{"records": len(rs)})
	return nil
}

// lines are those of a body that are not empty.
func lines(data []byte) [][]byte {
	var out [][]byte
	for line := range bytes.Lines(data) {
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			out = append(out, line)
		}
	}
	return out
}

var hashes = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

// signed checks the HMAC of a body.
func (s *server) signed(h *site.Webhook, r *http.Request, data []byte) error {
	secret, err := s.box.Secret(h.Secret)
	if err != nil {
		s.log.Warn("webhook cannot be checked", "error", err)
		return &problem{http.StatusServiceUnavailable, 50302, "signatures cannot be checked now"}
	}
	refuse := &problem{http.StatusUnauthorized, 40102, "the signature in " + h.Header + " is not that of the body"}
	text, ok := strings.CutPrefix(r.Header.Get(h.Header), h.Prefix)
	if !ok {
		return refuse
	}
	var got []byte
	if h.Encoding == "base64" {
		got, err = base64.StdEncoding.DecodeString(text)
	} else {
		got, err = hex.DecodeString(text)
	}
	mac := hmac.New(hashes[h.Algorithm], []byte(secret))
	mac.Write(data)
	if err != nil || !hmac.Equal(mac.Sum(nil), got) {
		return refuse
	}
	return nil
}
