// Package status serves the box's own API on a unix socket: what init knows
// of the machine, and the two things it can be asked to do.
package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/waysideos/wayside/services/manifest"
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
	Log              *slog.Logger
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
		ConnContext:    noteOwner,
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

// Handler is the API: GET /status gives a manifest.Box as JSON; POST /reboot
// and POST /poweroff answer 202 to root, 403 to others.
func Handler(c Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(c.Box()); err != nil {
			c.Log.Warn("answer status", "err", err)
		}
	})
	for path, act := range map[string]func(string){"/reboot": c.Reboot, "/poweroff": c.PowerOff} {
		mux.Handle("POST "+path, ownerOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			act("asked for over the API")
		})))
	}
	return mux
}
