package model

import (
	"fmt"
	"slices"
	"time"
)

// fate is what is known of something that was sent.
type fate int8

const (
	unknown fate = iota // no answer, or one that says nothing
	acked
	never // refused, or not there after a restart
)

type rec struct {
	key   string
	value []byte // nil is a tombstone
	ms    int64
}

// batch is one record batch that was sent once, or again and again.
type batch struct {
	id    int
	part  *part
	recs  []rec
	pid   int64 // -1: plain
	epoch int16
	seq   int32
	gzip  bool
	txn   *txn
	who   *producer
	fate  fate
	safe  bool  // acknowledged with acks=all
	base  int64 // as told, or as read; -1
	seen  bool
	at    time.Time
	raw   []byte // encoded
}

// entry is what lies in a log: a batch or a marker.
type entry struct {
	base, n int64
	b       *batch // nil: a marker
	pid     int64
	commit  bool
	over    bool // of a batch in a transaction: its marker was read
}

func (e *entry) visible() bool { return e.b.txn == nil || e.over && e.commit }

// part is one partition of one life of a topic.
type part struct {
	topic    *topic
	num      int32
	known    []*entry
	open     []*entry // batches whose transaction has no marker yet
	end      int64    // offset behind the last known entry
	start    int64    // as read last
	mayStart int64    // where DeleteRecords may have moved it
	waiting  []*batch // sent, and not read yet
	lastSent map[*producer]int
}

func (p *part) dir() string { return fmt.Sprintf("topics/%s-%d", p.topic.name, p.num) }

type topic struct {
	name      string
	id        [16]byte
	parts     []*part
	conf      map[string]string
	limbo     string // what may have happened to it: "made", "deleted", "grown"
	grown     int    // parts it may have
	compacted bool   // has or may have had cleanup.policy compact
	loose     bool   // nobody knows what retention may have deleted
	restamped bool   // the broker stamps its records
}

func (t *topic) number(name string, none int64) int64 {
	n := none
	if v, ok := t.conf[name]; ok {
		fmt.Sscan(v, &n)
	}
	return n
}

// txn is one transaction.
type txn struct {
	who     *producer
	began   time.Time
	batches []*batch
	offs    map[slotKey]int64
	asked   bool // its commit was asked for
	bad     bool // something in it failed: it can only be aborted
	decided bool
	commit  bool
}

type slotKey struct {
	group string
	topic *topic
	num   int32
}

// producer is one client that writes.
type producer struct {
	name    string
	txid    string // empty: not transactional
	modern  bool   // KIP-890
	pid     int64  // -1: plain, or none yet
	epoch   int16
	timeout time.Duration
	seqs    map[*part]int32
	recent  map[*part][]*batch
	pending map[*part]*batch // sent, and to be sent again
	txn     *txn
	ending  bool // the end of txn was asked for and not answered
	stale   bool // a new epoch was asked for and not given
}

// reference is the model: what the broker should say.
type reference struct {
	topics map[string]*topic
	groups map[slotKey][]int64 // the values that a commit may have; -1 is none
	// shared says which offsets the share group has said to be done with.
	shared     map[*part]map[int64]fate
	shareReady bool // it is configured
	batches    []*batch
	prods      []*producer
	ids        map[[16]byte]bool
	pids       map[int64]bool
}

func newReference() reference {
	return reference{topics: map[string]*topic{}, groups: map[slotKey][]int64{}, shared: map[*part]map[int64]fate{}, ids: map[[16]byte]bool{}, pids: map[int64]bool{}}
}

func newTopic(name string, parts int, conf map[string]string) *topic {
	t := &topic{name: name, conf: conf}
	t.grow(parts)
	t.noteConf()
	return t
}

func (t *topic) noteConf() {
	if p := t.conf["cleanup.policy"]; p == "compact" || p == "compact,delete" {
		t.compacted = true
	}
	if t.conf["message.timestamp.type"] == "LogAppendTime" {
		t.restamped = true
	}
}

func (t *topic) grow(parts int) {
	for len(t.parts) < parts {
		t.parts = append(t.parts, &part{topic: t, num: int32(len(t.parts)), lastSent: map[*producer]int{}})
	}
}

// names are the topics that are surely there, sorted.
func (r *reference) names() (out []string) {
	for name, t := range r.topics {
		if t.limbo == "" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// eachPart goes over all partitions that are surely there.
func (r *reference) eachPart(do func(*part)) {
	for _, name := range r.names() {
		for _, p := range r.topics[name].parts {
			do(p)
		}
	}
}

// settle notes the outcome of a transaction, as a marker or an answer tells it.
func (r *reference) settle(t *txn, commit bool, how string) {
	if t.decided {
		if t.commit != commit {
			failf("transaction of %s: %s says committed=%v, before it was %v", t.who.name, how, commit, t.commit)
		}
		return
	}
	if commit && !t.asked {
		failf("transaction of %s: %s says that it is committed; nobody asked for that", t.who.name, how)
	}
	t.decided, t.commit = true, commit
	if !commit {
		return
	}
	for k, v := range t.offs {
		r.groups[k] = []int64{v}
	}
}

// openTxns are those that may still end.
func (r *reference) openTxns() (out []*txn) {
	for _, p := range r.prods {
		if p.txn != nil && !p.txn.decided {
			out = append(out, p.txn)
		}
	}
	return out
}

// committed notes a plain commit, or that an offset was taken back (-1).
func (r *reference) committed(k slotKey, v int64, f fate) {
	old := r.groups[k]
	if old == nil {
		old = []int64{-1}
	}
	switch f {
	case acked:
		r.groups[k] = []int64{v}
		for _, t := range r.openTxns() {
			delete(t.offs, k) // what is newer counts
		}
	case unknown:
		r.groups[k] = append(slices.Clone(old), v)
		for _, t := range r.openTxns() {
			if o, ok := t.offs[k]; ok { // it may be superseded, or be what counts
				r.groups[k] = append(r.groups[k], o)
				t.bad = true
			}
		}
	}
}

// forget drops a topic that is gone.
func (r *reference) forget(t *topic) {
	delete(r.topics, t.name)
	for k := range r.groups {
		if k.topic == t {
			delete(r.groups, k)
		}
	}
	for _, x := range r.openTxns() {
		for k := range x.offs {
			if k.topic == t {
				delete(x.offs, k)
			}
		}
	}
}
