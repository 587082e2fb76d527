package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// statusServer answers about one service on its unix socket: GET /status is
// its manifest.Report as JSON, GET /metrics its registry as Prometheus text,
// and a service may have more to say.
type statusServer struct {
	http *http.Server
	done chan struct{}
}

// statusMode keeps other users out: the socket's group is the service's own,
// and the console is in it.
const statusMode fs.FileMode = 0o660

// listenUnix makes a unix socket of statusMode, and its folder.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("make folder of socket: %v", err)
	}
	// What a killed process left; its supervisor runs only one of us.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %v", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on socket: %v", err)
	}
	if err := os.Chmod(path, statusMode); err != nil {
		l.Close()
		return nil, fmt.Errorf("set mode of socket: %v", err)
	}
	return l, nil
}

func serveStatus(path string, svc service, reg prometheus.Gatherer, log *slog.Logger) (*statusServer, error) {
	l, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	s := &statusServer{
		http: &http.Server{
			Handler:           statusHandler(svc, reg),
			ReadHeaderTimeout: 5 * time.Second,
			WriteTimeout:      10 * time.Second,
			IdleTimeout:       time.Minute,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("status socket ended", "error", err)
		}
	}()
	return s, nil
}

func statusHandler(svc service, reg prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(svc.Status())
	})
	if more, ok := svc.(interface{ Handle(*http.ServeMux) }); ok {
		more.Handle(mux)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return mux
}

// close ends the server; on return it runs no more and the socket is gone.
func (s *statusServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	<-s.done
}
