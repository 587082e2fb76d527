// Package status serves the box's own API on a unix socket: what init knows
// of the machine and its versions, and what it can be asked to do with them.
package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// Group may open the socket: wayside in the root's /etc/group.
const Group = 200

// maxConns is how many clients are served at a time. The others wait: one
// that opens connections without end must not take PID 1's descriptors.
const maxConns = 16

// Config is what the API speaks for.
type Config struct {
	Box func() manifest.Box
	// Reboot and PowerOff start an orderly end and return at once.
	Reboot, PowerOff func(reason string)
	Slots            func() manifest.Slots
	// Update holds what can be done with versions, by verb. An error with a
	// method Refused is one that asking again does not change.
	Update map[string]func(body []byte) error
	// Site holds likewise what can be done with the site profile.
	Site    map[string]func(body []byte) error
	Updater int // user who, besides root, may ask for these and a reboot
	Log     *slog.Logger
}

// Serve answers on the unix socket path until ctx ends.
func Serve(ctx context.Context, path string, c Config) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o660); err != nil {
		return fmt.Errorf("set mode of %s: %w", path, err)
	}
	if err := os.Chown(path, -1, Group); err != nil {
		c.Log.Warn("only root can ask for the status", "err", err)
	}
	s := &http.Server{
		Handler:        Handler(c),
		ConnContext:    notePeer,
		ReadTimeout:    5 * time.Second,
		WriteTimeout:   10 * time.Second,
		IdleTimeout:    30 * time.Second,
		MaxHeaderBytes: 8 << 10,
		// Of panics too, which net/http keeps to their connection.
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(newLimited(l, maxConns)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", path, err)
	}
	return nil
}

// Handler is the API: GET /status gives a manifest.Box as JSON, GET /update a
// manifest.Slots. POST /reboot, /poweroff, /update/VERB and /site/VERB answer
// root, and all but /poweroff the updater; others get 403.
func Handler(c Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { c.answer(w, c.Box()) })
	if c.Slots != nil {
		mux.HandleFunc("GET /update", func(w http.ResponseWriter, _ *http.Request) { c.answer(w, c.Slots()) })
	}
	end := func(act func(string)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			act("asked for over the API")
		})
	}
	mux.Handle("POST /poweroff", only(end(c.PowerOff), owner))
	mux.Handle("POST /reboot", only(end(c.Reboot), owner, c.Updater))
	for verb, do := range c.Update {
		mux.Handle("POST /update/"+verb, only(c.verb(do, maxBody), owner, c.Updater))
	}
	for verb, do := range c.Site {
		mux.Handle("POST /site/"+verb, only(c.verb(do, maxProfile), owner, c.Updater))
	}
	return mux
}

func (c Config) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		c.Log.Warn("answer status", "err", err)
	}
}

// maxBody bounds a request, in bytes, maxProfile one with a site profile in
// base64; verbTime is what a verb may take: a kernel image is read, written to a
// slow card and read again.
const (
	maxBody    = 64 << 10
	maxProfile = 2 * site.MaxSize
	verbTime   = 5 * time.Minute
)

func (c Config) verb(do func([]byte) error, most int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(verbTime))
		err = do(body)
		var refusal interface{ Refused() bool }
		switch {
		case err == nil:
			w.WriteHeader(http.StatusNoContent)
		case errors.As(err, &refusal):
			http.Error(w, err.Error(), http.StatusConflict)
		default:
			c.Log.Warn("asked for over the API", "path", r.URL.Path, "err", err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}
