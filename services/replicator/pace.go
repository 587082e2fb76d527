package replicator

import (
	"time"

	"github.com/waysideos/wayside/services/kafka"
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
	groups                 time.Duration // between looks at offsets of groups
}

// normal is for a source on the box; a distant one is asked more rarely,
// since every question costs bytes of the uplink.
var (
	normal = pace{
		discover:   2 * time.Second,
		backoffMin: 500 * time.Millisecond, backoffMax: 10 * time.Second,
		watch: 2 * time.Second,
		grace: 3 * time.Second,
		save:  time.Second, groups: 10 * time.Second,
	}
	distant = pace{
		discover:   time.Minute,
		backoffMin: 500 * time.Millisecond, backoffMax: 10 * time.Second,
		watch: 30 * time.Second,
		grace: 3 * time.Second,
		save:  time.Second, groups: 10 * time.Second,
	}
)

func (p pace) backoff(tries int) time.Duration {
	return kafka.Backoff(tries, p.backoffMin, p.backoffMax)
}

// maxBatch is Kafka's default limit of a batch (message.max.bytes).
const maxBatch = 1048588
