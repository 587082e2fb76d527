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

// A turn of a link is: take a bounded lot of what was fetched, produce it,
// wait until all of it is answered, commit it together with the positions.
// One lot is on its way at a time, so that a lot which fails takes nothing
// with it that came later: the order cannot be broken. What it costs is some
// round trips per lot, so lots are as large as the uplink carries in about
// lotTime. Memory is bounded by a lot, what lanes have fetched ahead, and
// the clients' buffers.
const (
	lotTime     = 2 * time.Second
	lotMin      = 16 << 10 // bytes of keys and values
	lotStart    = 256 << 10
	lotMax      = 8 << 20
	lotRecords  = 20000
	aheadBytes  = 8 << 20 // fetched and waiting, of all lanes
	fetchBytes  = 4 << 20 // as fetched, compressed as the producers left it, of all lanes
	fetchMax    = 2 << 20 // of one partition
	idleWait    = time.Second
	nearFetch   = 500 * time.Millisecond // a broker's long poll
	farFetch    = 15 * time.Second       // each answer costs bytes of the uplink
	adminWait   = 15 * time.Second
	openWait    = 2 * time.Minute // the destination may still end the last transaction
	mirrorAfter = 10 * time.Second
	txnTimeout  = time.Minute // a broker ends a transaction that hangs after this
	txnMax      = 15 * time.Minute
)

// pace is what tests hurry.
type pace struct {
	discover               time.Duration // new topics and partitions are seen within this
	backoffMin, backoffMax time.Duration // before what failed is tried again
	watch                  time.Duration // between measurements of the lag
	grace                  time.Duration // for the lot on its way when Run ends
	save                   time.Duration // between commits of positions that the destination does not keep
}

// normal is for a source on the box; a distant one is asked more rarely,
// since every question costs bytes of the uplink.
var (
	normal = pace{
		discover:   2 * time.Second,
		backoffMin: 500 * time.Millisecond, backoffMax: 10 * time.Second,
		watch: 2 * time.Second,
		grace: 3 * time.Second,
		save:  time.Second,
	}
	distant = pace{
		discover:   time.Minute,
		backoffMin: 500 * time.Millisecond, backoffMax: 10 * time.Second,
		watch: 30 * time.Second,
		grace: 3 * time.Second,
		save:  time.Second,
	}
)

func (p pace) backoff(tries int) time.Duration {
	return kafka.Backoff(tries, p.backoffMin, p.backoffMax)
}

// maxBatch is Kafka's default limit of a batch (message.max.bytes).
const maxBatch = 1048588

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
	opened    bool      // there is a producer that nothing has failed of
	retry     time.Time // when to open it again
	fails     int
	lotSize   int // bytes, see adapt
	wake      chan struct{}

	discovered time.Time
	configs    map[string]topicConfig // of source topics, as last seen
	followed   time.Time
	source     string // cluster id
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
