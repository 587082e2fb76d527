package replicator

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/site"
)

// A turn of a link is: fetch a bounded lot, produce all of it, wait until all
// of it is answered, move the positions. Nothing is produced while a lot is
// on its way, so when the destination refuses a record, everything behind it
// in its partition is refused with it (franz-go fails a partition as a
// whole) and the order can never be broken. Memory is bounded by two lots:
// one on its way, one fetched ahead.
const (
	lotBytes     = 4 << 20 // as fetched, compressed as the producers left it
	lotPartition = 2 << 20
	lotRecords   = 10000
	pollWait     = time.Second // longest turn of an idle link
	// fetchWait is the broker's long poll; a partition that begins or is
	// rewound waits for the one that is under way.
	fetchWait = 500 * time.Millisecond

	saveAfter   = time.Second // an acknowledged record is committed within this
	saveRecords = 1000        // or when that many wait
	holdRecords = 10000       // nothing more is carried while commits fail

	adminWait = 10 * time.Second
)

// pace is what tests hurry.
type pace struct {
	discover               time.Duration // new topics and partitions are seen within this
	backoffMin, backoffMax time.Duration // before a stopped partition is tried again
	watch                  time.Duration // between measurements of the lag
	grace                  time.Duration // for the lot on its way when Run ends, and then for the last commit
}

var normal = pace{
	discover:   2 * time.Second,
	backoffMin: 500 * time.Millisecond, backoffMax: 5 * time.Second,
	watch: 2 * time.Second,
	grace: 3 * time.Second,
}

func (p pace) backoff(tries int) time.Duration {
	return kafka.Backoff(tries, p.backoffMin, p.backoffMax)
}

// maxBatch is Kafka's default limit of a batch (message.max.bytes).
const maxBatch = 1048588

type key struct {
	topic string
	num   int32
}

// partition is one source partition and how far it is carried. Fields that
// Status reads change under link.mu; only the link's loop changes them.
type partition struct {
	key
	position          // next is -1 before it is known
	saved    position // as committed
	active   bool     // being fetched
	err      error    // why it stopped, until it is carried again
	fails    int
	retry    time.Time // when a stopped partition is tried again
	fresh    bool      // to be compared with the destination's end before it begins
}

// link carries one site.Link. Its loop owns the clients.
type link struct {
	name    string
	rules   rules
	log     *slog.Logger
	metrics *linkMetrics
	state   *state

	src, dst   *kgo.Client
	srcAdm     *kadm.Client
	positions  positions
	newDst     func() (*kgo.Client, error)
	replaceDst bool // the producer has failed records; see restartProducer

	pace       pace
	discovered time.Time
	unsaved    int       // records acknowledged since the last commit
	unsavedAt  time.Time // when the first of them was

	mu     sync.Mutex
	parts  map[key]*partition
	flows  map[string]*flow // by source topic
	resent int64            // see Status: records sent again
	lag    int64            // records, as last measured
	notes  map[string]string
}

type flow struct{ records, bytes int64 }

func newLink(cfg Config, lc site.Link, m *metrics) (*link, error) {
	l := &link{
		name:    lc.Name,
		rules:   rules{topics: lc.Topics, prefix: lc.Prefix},
		log:     cfg.Log.With("link", lc.Name),
		metrics: m.link(lc.Name),
		parts:   map[key]*partition{},
		flows:   map[string]*flow{},
		notes:   map[string]string{},
		pace:    normal,
	}
	l.state = newState(l.log, l.metrics.up)
	id := "wayside-link-" + lc.Name
	var err error
	l.src, err = kafka.NewClient(kafka.Config{Bootstrap: cfg.Source, ClientID: id, Log: l.log.With("side", "source")},
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // a gap is for us to see and tell
		kgo.FetchMaxBytes(lotBytes), kgo.FetchMaxPartitionBytes(lotPartition), kgo.MaxConcurrentFetches(1),
		kgo.FetchMaxWait(fetchWait),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	if err != nil {
		return nil, err
	}
	l.newDst = func() (*kgo.Client, error) {
		return kafka.NewClient(kafka.Config{Bootstrap: lc.Bootstrap, ClientID: cfg.Site + "." + id, Remote: true, Log: l.log.With("side", "destination")},
			kgo.RequiredAcks(kgo.AllISRAcks()),
			kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ManualFlushing(), kgo.MaxBufferedRecords(2*lotRecords), kgo.ProducerBatchMaxBytes(maxBatch),
			kgo.ProducerBatchCompression(kgo.ZstdCompression(), kgo.SnappyCompression(), kgo.NoCompression()),
			kgo.ProducerOnDataLossDetected(l.onDataLoss),
			kgo.WithHooks(l.state),
		)
	}
	if l.dst, err = l.newDst(); err != nil {
		l.src.Close()
		return nil, err
	}
	l.srcAdm = kadm.NewClient(l.src)
	l.positions = positions{adm: l.srcAdm, group: "wayside.link." + lc.Name}
	return l, nil
}

// run is the link's loop; on return its clients are closed.
func (l *link) run(ctx context.Context) {
	for ctx.Err() == nil {
		l.state.turn()
		l.discover(ctx)
		l.carry(ctx)
		l.save(ctx, false)
	}
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.pace.grace)
	defer cancel()
	l.save(final, true)
	l.close()
}

func (l *link) close() {
	l.abort()
	l.src.Close()
}

// abort ends all that waits for the destination. It may be called twice.
func (l *link) abort() {
	l.mu.Lock()
	dst := l.dst
	l.mu.Unlock()
	dst.Close()
}
