// Package catalog joins the topics of the broker's state with their partition
// logs on disk: what exists, making, growing and deleting it, and retention.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// What a request for a topic can be told.
var (
	ErrExists     = errors.New("topic already exists")
	ErrUnknown    = errors.New("topic does not exist")
	ErrName       = errors.New("invalid topic name")
	ErrPartitions = errors.New("invalid number of partitions")
	ErrConfig     = errors.New("invalid topic configuration")
)

const (
	root = "topics" // directory of all partition logs: topics/<topic>-<partition>
	// MaxPartitions of one topic, and MaxTotal of all: each holds a file open.
	MaxPartitions = 10000
	MaxTotal      = 20000
	openAtOnce    = 4
)

// Options of a catalog.
type Options struct {
	Linger time.Duration // see store.Options
	Syncer *store.Syncer
	Log    *slog.Logger
	// Now is the box's clock, which may jump; default time.Now. Only
	// timestamps of records come from it.
	Now func() time.Time
	// Static is the configuration of the broker by the site profile; what
	// clients set goes before it.
	Static map[string]string
}

// Topic is one topic. It does not change: an altered topic is a new value.
type Topic struct {
	meta.Topic
	Partitions []Partition
	broker     map[string]string // the broker's configuration, by its own names
	settings   store.Settings
	givesWay   bool
}

// Value is a setting of the topic: its own, else the broker's, else the
// built-in default.
func (t *Topic) Value(name string) string {
	if v, ok := t.Config[name]; ok {
		return v
	}
	d, _ := Lookup(name)
	if v, ok := t.broker[d.Broker]; ok {
		return v
	}
	return d.Default
}

// MaxMessageBytes is the largest record batch that the topic takes.
func (t *Topic) MaxMessageBytes() int64 { return t.settings.MaxMessageBytes }

// Settings is what the topic's configuration means to its logs.
func (t *Topic) Settings() store.Settings { return t.settings }

// GivesWay reports whether records give way when a group has read them.
func (t *Topic) GivesWay() bool { return t.givesWay }

// Partition has either a log or the reason why there is none.
type Partition struct {
	Log *store.Log
	Err error
}

// Catalog is safe for concurrent use.
type Catalog struct {
	fsys vfs.FS
	meta *meta.Store
	opts Options

	age    *age
	counts keepCounts
	failed map[*store.Log]time.Time // see compactDirtiest; of one goroutine
	// settled: everything was synced since the catalog was opened.
	settled func() bool
	loaders sync.WaitGroup
	stop    context.CancelFunc // of loaders
	loaded  chan struct{}      // closed when all logs are recovered

	strays []string // see Strays

	change sync.Mutex // held while a topic is made, grown or deleted

	mu     sync.RWMutex
	byName map[string]*Topic
	byID   map[meta.ID]*Topic
	// partitions of all topics.
	partitions int32
	broker     map[string]string // the broker's configuration in force; replaced, never changed
}

// Open finishes deletions that were interrupted and opens every log. A
// partition that cannot be opened is reported and does not hinder the others.
func Open(fsys vfs.FS, st *meta.Store, opts Options) (*Catalog, error) {
	c := &Catalog{fsys: fsys, meta: st, opts: opts, byName: map[string]*Topic{}, byID: map[meta.ID]*Topic{}, failed: map[*store.Log]time.Time{}}
	if err := fsys.MkdirAll(root); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	if err := fsys.SyncDir("."); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	for _, t := range st.Deleting() {
		if err := c.removeFiles(t); err != nil {
			opts.Log.Warn("delete the rest of a topic", "topic", t.Name, "err", err)
		}
	}
	if err := c.sweep(); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	c.broker = c.brokerInForce()
	var err error
	if c.age, err = openAge(fsys); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	c.settled = sync.OnceValue(func() bool {
		// One sync for all logs; those that have to be read then need none of
		// their own. If it fails they have.
		all, ok := fsys.(vfs.AllSyncer)
		return ok && all.SyncAll() == nil
	})
	for _, mt := range st.Topics() {
		t := c.resolve(mt, make([]Partition, mt.Partitions))
		for i := range t.Partitions {
			t.Partitions[i] = c.openLog(t, int32(i), true)
		}
		c.put(t)
	}
	c.load()
	return c, nil
}

func dirOf(topic string, part int32) string {
	return path.Join(root, fmt.Sprintf("%s-%d", topic, part))
}

func (c *Catalog) openLog(t *Topic, part int32, lazy bool) Partition {
	l, err := store.Open(c.fsys, dirOf(t.Name, part), store.Options{
		Settings: t.settings,
		Epoch:    c.meta.Epoch(),
		Linger:   c.opts.Linger,
		Syncer:   c.opts.Syncer,
		Log:      c.opts.Log,
		Now:      c.opts.Now,
		Age:      c.age.now,
		Settled:  c.settled,
		Lazy:     lazy,
	})
	if err != nil {
		c.opts.Log.Error("open partition", "topic", t.Name, "partition", part, "err", err)
	}
	return Partition{l, err}
}

func (c *Catalog) put(t *Topic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byName[t.Name]; old != nil {
		c.partitions -= old.Topic.Partitions
	}
	c.partitions += t.Topic.Partitions
	c.byName[t.Name], c.byID[t.ID] = t, t
}

func (c *Catalog) drop(t *Topic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partitions -= t.Topic.Partitions
	delete(c.byName, t.Name)
	delete(c.byID, t.ID)
}

// Get finds a topic by name; nil when there is none.
func (c *Catalog) Get(name string) *Topic {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byName[name]
}

// ByID finds a topic by id; nil when there is none.
func (c *Catalog) ByID(id meta.ID) *Topic {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byID[id]
}

// All returns every topic, by name.
func (c *Catalog) All() []*Topic {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.SortedFunc(maps.Values(c.byName), func(a, b *Topic) int { return strings.Compare(a.Name, b.Name) })
}

// Close closes every log.
func (c *Catalog) Close() error {
	c.stop()
	c.loaders.Wait()
	c.change.Lock()
	defer c.change.Unlock()
	var all []Partition
	for _, t := range c.All() {
		all = append(all, t.Partitions...)
	}
	return errors.Join(closeAll(all), c.age.save())
}

func closeAll(ps []Partition) error {
	var g errgroup.Group
	g.SetLimit(openAtOnce)
	for _, p := range ps {
		if p.Log != nil {
			g.Go(p.Log.Close)
		}
	}
	return g.Wait()
}
