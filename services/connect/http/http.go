// Package http is a web server whose requests become records: the REST
// interface that Kafka users know (Confluent REST Proxy v2 and v3), plain
// posts, and webhooks.
package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// What clients may make this server hold.
const (
	maxConns     = 256
	maxBodies    = 16 << 20 // bytes of bodies that are read or stored, all requests; half of it one caller's
	roomWait     = 5 * time.Second
	maxBuffered  = 16 << 20 // bytes that wait for the broker
	maxHeaders   = 16 << 10
	headerWait   = 10 * time.Second // from accept to a whole header
	bodyWait     = 30 * time.Second // for a body, or the next record of a stream
	storeWait    = 30 * time.Second // for the broker
	idleWait     = 2 * time.Minute
	stopGrace    = 5 * time.Second
	maxBatch     = 1048588 // Kafka's default message.max.bytes
	linger       = 500 * time.Microsecond
	maxInstances = 16 // v2 consumers
)

// Connector is one web server.
type Connector struct {
	cfg     site.HTTP
	maxBody int64
}

// New prepares the server of an entry of the profile.
func New(cfg site.HTTP) (connect.Connector, error) {
	most, err := site.ParseSize(cfg.MaxBody)
	if err != nil {
		return nil, fmt.Errorf("max_body: %w", err)
	}
	return &Connector{cfg: cfg, maxBody: most}, nil
}

// server is a Connector that runs.
type server struct {
	*Connector
	box    *connect.Box
	log    *slog.Logger
	kafka  *connect.Producer
	adm    *kadm.Client
	rates  rates
	bodies *room

	consumers consumers
}

// Run implements connect.Connector.
func (c *Connector) Run(ctx context.Context, box *connect.Box) error {
	most := c.maxBody + 1 // it shows by that byte that a body is too large
	s := &server{Connector: c, box: box, log: box.Log(), rates: rates{perSecond: float64(c.cfg.Rate)}, bodies: newRoom(max(maxBodies, most), max(maxBodies/2, most))}
	if len(c.cfg.Topics) > 0 {
		if err := s.open(); err != nil {
			return err
		}
		defer s.kafka.Close()
	}
	ln, err := box.Listen(c.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", c.cfg.Listen, err)
	}
	defer s.consumers.close()
	return s.serve(ctx, ln)
}

// open makes the client of the REST interface; posts need none.
func (s *server) open() (err error) {
	s.kafka, err = s.box.Producer(
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(linger), kgo.ProducerBatchMaxBytes(maxBatch),
		kgo.MaxBufferedBytes(maxBuffered), kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}))
	if err == nil {
		s.adm = s.kafka.Admin()
	}
	return err
}

func (s *server) serve(ctx context.Context, ln net.Listener) error {
	if s.cfg.TLS != nil {
		ln = tls.NewListener(&limited{Listener: ln, free: make(chan struct{}, maxConns)}, s.box.ServerTLS(s.cfg.TLS))
	} else {
		ln = &limited{Listener: ln, free: make(chan struct{}, maxConns)}
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: headerWait, IdleTimeout: idleWait, MaxHeaderBytes: maxHeaders,
		// Also of what is read after an answer, and of who does not take it.
		ReadTimeout: headerWait + bodyWait, WriteTimeout: idleWait,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return base },
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	s.box.Up("listening on " + ln.Addr().String())
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		// What is being stored is answered.
		grace, done := context.WithTimeout(base, stopGrace)
		defer done()
		if srv.Shutdown(grace) != nil {
			cancel()
			srv.Close()
		}
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve http: %w", err)
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	if len(s.cfg.Topics) > 0 {
		s.routesV2(mux)
		s.routesV3(mux)
	}
	for i := range s.cfg.Posts {
		s.routePost(mux, &s.cfg.Posts[i])
	}
	return mux
}

// partitioner obeys a record's own partition, -1 for none.
type partitioner struct{ kgo.Partitioner }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return obedient{p.Partitioner.ForTopic(topic)}
}

type obedient struct{ kgo.TopicPartitioner }

func (o obedient) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition >= 0 || o.TopicPartitioner.RequiresConsistency(r)
}

func (o obedient) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition)
	}
	return o.TopicPartitioner.Partition(r, n)
}

// limited accepts so many connections at once; more wait in the kernel.
type limited struct {
	net.Listener
	free chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{Conn: c, done: sync.OnceFunc(func() { <-l.free })}, nil
}

type counted struct {
	net.Conn
	done func()
}

func (c *counted) Close() error {
	defer c.done()
	return c.Conn.Close()
}
