// Package server speaks the Kafka protocol: connections, requests, and one
// file per API key that says which versions are served and answers them.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/quota"
	"github.com/waysideos/wayside/services/broker/share"
	"github.com/waysideos/wayside/services/broker/txn"
)

// NodeID is this broker's; some clients take 0 for "none".
const NodeID = 1

// Config of a server; every field but Authorizer and Disk is required.
type Config struct {
	Catalog   *catalog.Catalog
	Meta      *meta.Store
	Groups    *group.Manager
	Shares    *share.Manager
	Txns      *txn.Coordinator
	Advertise func(net.Conn) (host string, port int32)
	// FormatLevel says how new the formats are that may be written now
	// (manifest.FormatLevel).
	FormatLevel func() int
	// Room reports whether records of n bytes may still be written; gives is
	// Topic.GivesWay.
	Room func(n int64, gives bool) bool
	// Disk, if not nil, returns how many bytes records may still take and the
	// size of the file system; -1 for what is not known.
	Disk    func() (usable, total int64)
	Metrics *Metrics
	Log     *slog.Logger
	// Authorizer judges what clients may do; nil allows everything.
	Authorizer *auth.Authorizer

	Connections     int
	RequestBytes    int32
	RequestMemory   int64
	FetchBytes      int32
	IdleTimeout     time.Duration
	TransferTimeout time.Duration
}

// Server accepts clients. Make it with New, then call Serve once.
type Server struct {
	Config
	apis          []api
	byKey         map[int16]api
	memory        *memory
	layouts       layouts
	sessions      sessions
	reads, writes turns
	unpacks       turns // see unpacksAtOnce
	quotas        *quota.Manager
	// Each orders changes of one kind with their coming into force.
	aclMu, quotaMu, scramMu sync.Mutex
	// updating is held while feature levels are read and set.
	updating sync.Mutex

	mu    sync.Mutex
	conns map[*conn]struct{}
	wg    sync.WaitGroup
}

// New returns a server that listens nowhere yet.
func New(cfg Config) *Server {
	s := &Server{Config: cfg, apis: apis(), byKey: map[int16]api{}, conns: map[*conn]struct{}{}}
	for _, a := range s.apis {
		s.byKey[a.key.Int16()] = a
	}
	s.memory = newMemory(cfg.RequestMemory)
	s.reads, s.writes = make(turns, readsAtOnce), make(turns, writesAtOnce)
	s.unpacks = make(turns, unpacksAtOnce)
	s.quotas = quota.New(cfg.Meta.Quotas())
	return s
}

// drain is how long answers under way may take when the server stops.
const drain = 5 * time.Second

// Serve answers clients until ctx ends or a listener fails, and closes the
// listeners. Requests under way are answered first, within a few seconds.
func (s *Server) Serve(ctx context.Context, listeners []net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Answers outlive ctx for a while, so that what is on disk by then is
	// acknowledged.
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	errs := make(chan error, len(listeners))
	for _, ln := range listeners {
		s.wg.Go(func() {
			defer cancel()
			if err := s.accept(ctx, hard, ln); err != nil && ctx.Err() == nil {
				errs <- err
			}
		})
	}
	<-ctx.Done()
	for _, ln := range listeners {
		ln.Close()
	}
	s.hangUp()
	timer := time.AfterFunc(drain, func() { kill(); s.closeAll() })
	defer timer.Stop()
	s.wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func (s *Server) accept(ctx, hard context.Context, ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() || isTransient(err) {
				s.Log.Warn("accept a connection", "err", err)
				if !pause(ctx, 100*time.Millisecond) {
					return nil
				}
				continue
			}
			return err
		}
		c := newConn(s, nc)
		c.guard.sec = auth.SecurityOf(ln)
		if !s.track(c) {
			s.Log.Warn("too many connections, one is refused", "client", nc.RemoteAddr(), "limit", s.Connections)
			nc.Close()
			continue
		}
		s.wg.Go(func() { c.serve(ctx, hard) })
		if ctx.Err() != nil {
			c.hangUp() // it came in while the server stopped
		}
	}
}

// pause waits for d, or returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) track(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.Connections {
		return false
	}
	s.conns[c] = struct{}{}
	s.Metrics.Connections.Set(float64(len(s.conns)))
	return true
}

func (s *Server) untrack(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.Metrics.Connections.Set(float64(len(s.conns)))
}

// Open is how many connections there are.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// hangUp ends all reading; answers under way are still written.
func (s *Server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.hangUp()
	}
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		closeNow(c.nc)
	}
}
