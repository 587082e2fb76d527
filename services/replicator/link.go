package replicator

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/replicator/budget"
	"github.com/waysideos/wayside/services/site"
)

// link carries one site.Link. Its loop owns the clients.
type link struct {
	name    string
	cfg     site.Link
	site    string
	down    bool // from the centre to the box
	log     *slog.Logger
	metrics *linkMetrics
	state   *state
	pace    pace

	near, far kafka.Config // the box's broker, the centre
	lanes     []*lane
	srcAdm    *kadm.Client
	ledger    ledger
	stamper   stamper
	opened    bool      // there is a producer that nothing has failed of
	retry     time.Time // when to open it again
	fails     int
	lotSize   int // bytes, see adapt
	wake      chan struct{}

	discovered time.Time
	configs    map[string]topicConfig // of source topics, as last seen
	followed   time.Time
	source     string // cluster id
	alone      bool   // the source is one broker
	dest       string
	hop        []byte      // what this link adds to pathHeader
	boxClient  *kgo.Client // see box

	budget     *budget.Budget
	wire       atomic.Int64 // bytes over the uplink
	commands   chan command
	recalled   bool // see recall
	remembered kept // as last written
	keptAt     time.Time
	speed      measure

	mu      sync.Mutex // guards what Status reads
	paused  bool
	dst     *kgo.Client
	promise string // the guarantee in force
	parts   map[key]*partition
	flows   map[flowKey]*flow
	resent  int64 // records sent again that were there already
	lag     Lag   // as last measured
	notes   map[string]string
	groups  map[groupKey]groupState

	groupsAt time.Time // of watch
}

type (
	flowKey struct{ from, to string }
	flow    struct{ records, bytes int64 }
)

func newLink(cfg Config, lc site.Link, m *metrics) (*link, error) {
	l := &link{
		name: lc.Name, cfg: lc, site: cfg.Site,
		down:     lc.Direction == site.Down,
		log:      cfg.Log.With("link", lc.Name),
		metrics:  m.link(lc.Name),
		wake:     make(chan struct{}, 1),
		commands: make(chan command),
		lotSize:  lotStart,
		parts:    map[key]*partition{},
		flows:    map[flowKey]*flow{},
		notes:    map[string]string{},
		groups:   map[groupKey]groupState{},
		configs:  map[string]topicConfig{},
		pace:     normal,
	}
	l.state = newState(l.log, l.metrics.up)
	id := "wayside-link-" + lc.Name
	l.near = kafka.Config{Bootstrap: cfg.Source, ClientID: id, Log: l.log.With("side", "box")}
	l.far = kafka.Config{
		Bootstrap: lc.Bootstrap, ClientID: cfg.Site + "." + id, Remote: true, Log: l.log.With("side", "centre"),
		Security: kafka.Security{TLS: lc.TLS, SASL: lc.SASL, Secrets: cfg.Secrets},
	}
	if l.down {
		l.pace = distant
	}
	var err error
	if l.budget, err = budget.New(lc.Budget); err != nil {
		return nil, err
	}
	if l.dst, err = l.newDst(); err != nil { // a word for the status until the ledger has begun
		return nil, err
	}
	if err := l.openLanes(); err != nil {
		l.close()
		return nil, err
	}
	l.srcAdm = kadm.NewClient(l.lanes[0].src)
	l.ledger = ledger{l: l, exact: true}
	l.stamper = stamper{l: l}
	return l, nil
}

// from and to are the clusters at the two ends.
func (l *link) from() kafka.Config {
	if l.down {
		return l.far
	}
	return l.near
}

func (l *link) to() kafka.Config {
	if l.down {
		return l.near
	}
	return l.far
}

// newDst opens a producer; nothing is dialled yet.
func (l *link) newDst(extra ...kgo.Opt) (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ManualFlushing(), kgo.MaxBufferedRecords(1 << 20), kgo.ProducerBatchMaxBytes(maxBatch),
		kgo.ProducerBatchCompression(codecs(l.cfg.Compression)...),
		kgo.ProducerOnDataLossDetected(l.onDataLoss),
	}
	if !l.down {
		opts = append(opts, l.farHooks())
	}
	return kafka.NewClient(l.to(), append(opts, extra...)...)
}

// codecs are those to use, best first: a destination that does not know one
// gets the next.
func codecs(name string) []kgo.CompressionCodec {
	switch name {
	case "none":
		return []kgo.CompressionCodec{kgo.NoCompression()}
	case "gzip":
		return []kgo.CompressionCodec{kgo.GzipCompression(), kgo.NoCompression()}
	case "snappy":
		return []kgo.CompressionCodec{kgo.SnappyCompression(), kgo.NoCompression()}
	case "lz4":
		return []kgo.CompressionCodec{kgo.Lz4Compression(), kgo.NoCompression()}
	}
	return []kgo.CompressionCodec{kgo.ZstdCompression(), kgo.SnappyCompression(), kgo.NoCompression()}
}

// run is the link's loop; on return its clients are closed.
func (l *link) run(ctx context.Context) {
	for ctx.Err() == nil {
		l.state.turn()
		l.obey(ctx)
		l.discover(ctx)
		if !l.carry(ctx) {
			l.rest(ctx)
		}
		l.ledger.save(ctx, false)
		if err := l.keep(ctx, false); err != nil {
			l.state.box(err)
		}
	}
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.pace.grace)
	defer cancel()
	l.ledger.save(final, true)
	_ = l.keep(final, true)
	l.ledger.close(final)
	l.close()
}

// rest waits for something to carry, or for a moment.
func (l *link) rest(ctx context.Context) {
	pause := min(idleWait, l.pace.discover)
	wake := l.wake
	if debt := l.budget.Wait(time.Now()); debt > 0 || l.isPaused() {
		wake = nil // what was fetched has to wait
		if debt > 0 {
			pause = min(pause, debt)
		}
	}
	wait := time.NewTimer(pause)
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-wait.C:
	case <-wake:
	case c := <-l.commands:
		c.done <- c.do(ctx)
	}
}

func (l *link) close() {
	for _, lane := range l.lanes {
		lane.close()
	}
	if l.boxClient != nil {
		l.boxClient.Close()
	}
	l.abort()
}

// abort ends all that waits for the destination. It may be called twice.
func (l *link) abort() {
	l.mu.Lock()
	dst := l.dst
	l.mu.Unlock()
	if dst != nil {
		dst.Close()
	}
}

// setDst makes cl the producer, and closes the one before.
func (l *link) setDst(cl *kgo.Client) {
	l.mu.Lock()
	old := l.dst
	l.dst = cl
	l.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

// srcFailed and dstFailed note an error of one end: of the centre, which may
// be away for days, or of the box itself. nil is that all is well there.
func (l *link) srcFailed(err error) { l.failedAt(l.down, err) }
func (l *link) dstFailed(err error) { l.failedAt(!l.down, err) }

func (l *link) failedAt(far bool, err error) {
	switch {
	case !far:
		l.state.box(err)
	case err == nil:
		l.state.ok()
	default:
		l.state.failed(err)
	}
}
