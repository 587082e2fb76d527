package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/server"
	"github.com/waysideos/wayside/services/broker/share"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/broker/txn"
	"github.com/waysideos/wayside/services/vfs"
)

const (
	metaDir = "meta"
	// syncsAtOnce bounds the threads that wait for the disk.
	syncsAtOnce = 16
	// retainEvery is how often it is looked whether records must make room.
	retainEvery = 30 * time.Second
)

// Broker is the service. Make it with New, then call Run once.
type Broker struct {
	cfg     Config
	ready   chan struct{}
	opened  chan struct{} // closed when all logs are recovered
	metrics *server.Metrics
	syncer  *store.Syncer
	space   *space
	dropped dropped
	pulse   pulse

	mu    sync.Mutex
	parts *parts // nil before Run has opened them
}

// parts are what Run opens.
type parts struct {
	meta    *meta.Store
	catalog *catalog.Catalog
	groups  *group.Manager
	shares  *share.Manager
	txns    *txn.Coordinator
	server  *server.Server
}

// New checks the configuration and registers metrics. Nothing is opened
// before Run.
func New(cfg Config) (*Broker, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	m, err := server.NewMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	syncs := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "wayside", Subsystem: "broker", Name: "sync_seconds",
		Help:    "How long syncs of partition logs take.",
		Buckets: prometheus.ExponentialBuckets(0.00025, 4, 9),
	})
	if err := cfg.Registerer.Register(syncs); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	b := &Broker{
		cfg: cfg, ready: make(chan struct{}), opened: make(chan struct{}), metrics: m,
		syncer: store.NewSyncer(syncsAtOnce, func(d time.Duration) { syncs.Observe(d.Seconds()) }),
		space:  newSpace(cfg.FS, cfg.Limits.DiskReserve),
	}
	if err := b.registerKeep(); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if err := b.registerLoss(); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if err := b.dropped.register(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return b, nil
}

// Run opens the data directory, recovers what a power cut left, and serves
// until ctx ends or the broker cannot go on. On return nothing of it runs and
// everything that was written is on disk.
func (b *Broker) Run(ctx context.Context) error {
	defer closeListeners(b.cfg.Listeners)
	if l, ok := b.cfg.FS.(vfs.Locker); ok {
		lock, err := l.Lock("lock")
		if err != nil {
			return fmt.Errorf("lock the data directory; does another broker run on it? %w", err)
		}
		defer lock.Close()
	}
	p, err := b.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { p.catalog.Keep(ctx) })
	wg.Go(func() { b.makeRoom(ctx, p.catalog) })
	wg.Go(func() { b.beat(ctx, p) })
	wg.Go(func() {
		select {
		case <-p.catalog.Loaded():
			close(b.opened)
		case <-ctx.Done():
		}
	})
	close(b.ready)
	b.cfg.Log.Info("broker is ready", "cluster", p.meta.ClusterID(), "epoch", p.meta.Epoch(), "topics", len(p.catalog.All()))
	answered := context.AfterFunc(ctx, p.groups.Close) // joins may wait for minutes
	defer answered()
	err = p.server.Serve(ctx, b.cfg.Listeners)
	cancel()
	p.groups.Close()
	p.shares.Close()
	wg.Wait()
	p.txns.Close()
	return errors.Join(err, p.close())
}

func closeListeners(lns []net.Listener) {
	for _, ln := range lns {
		ln.Close()
	}
}

// open recovers the state and the logs, and makes the declared topics.
func (b *Broker) open() (*parts, error) {
	st, err := b.openState()
	if err != nil {
		return nil, err
	}
	cat, err := catalog.Open(b.cfg.FS, st, catalog.Options{
		Linger: b.cfg.Limits.SyncLinger, Syncer: b.syncer, Log: b.cfg.Log, Now: b.cfg.Now, Static: b.cfg.static(),
	})
	if err != nil {
		st.Close()
		return nil, err
	}
	p := &parts{meta: st, catalog: cat}
	p.groups = group.New(group.Options{
		Meta: st, Log: b.cfg.Log, Delay: b.cfg.Limits.RebalanceDelay, Setting: cat.BrokerValue,
		Taken: func(id string) bool { return p.shares.Has(id) },
	})
	p.shares = share.New(share.Options{Meta: st, Log: b.cfg.Log, Setting: cat.BrokerValue, Taken: p.groups.Has})
	p.txns = txn.Open(txn.Config{Meta: st, Logs: txn.Catalog(cat), Log: b.cfg.Log})
	b.declareTopics(cat)
	l := b.cfg.Limits
	p.server = server.New(server.Config{
		Catalog: cat, Meta: st, Groups: p.groups, Shares: p.shares, Txns: p.txns,
		Advertise: b.cfg.Advertise, FormatLevel: b.cfg.FormatLevel, Room: b.space.room, Disk: b.space.usable,
		Metrics: b.metrics, Log: b.cfg.Log, Authorizer: b.authorizer(p),
		Connections: l.Connections, RequestBytes: l.RequestBytes, RequestMemory: l.RequestMemory,
		FetchBytes: l.FetchBytes, IdleTimeout: l.IdleTimeout, TransferTimeout: l.TransferTimeout,
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parts = p
	return p, nil
}

// declareTopics makes the topics of the configuration that are absent. One
// that cannot be made is logged: the others are worth serving.
func (b *Broker) declareTopics(cat *catalog.Catalog) {
	for _, t := range b.cfg.Topics {
		if cat.Get(t.Name) != nil {
			continue
		}
		if _, err := cat.Create(t.Name, int32(max(t.Partitions, 1)), t.Config); err != nil {
			b.cfg.Log.Error("make a topic of the site profile", "topic", t.Name, "err", err)
		}
	}
}

func (p *parts) close() error {
	return errors.Join(p.catalog.Close(), p.meta.Close())
}

// Ready is closed when clients are being accepted.
func (b *Broker) Ready() <-chan struct{} { return b.ready }

// Recovered is closed when nothing is left to recover.
func (b *Broker) Recovered() <-chan struct{} { return b.opened }
