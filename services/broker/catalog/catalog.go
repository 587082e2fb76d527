// Package catalog joins the topics of the broker's state with their partition
// logs on disk: what exists, making, growing and deleting it, and retention.
package catalog

import (
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
	ErrExists     = errors.New("topic exists")
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
	openAtOnce    = 8
)

// Options of a catalog.
type Options struct {
	Linger time.Duration // see store.Options
	Syncer *store.Syncer
	Log    *slog.Logger
}

// Topic is one topic. It does not change: an altered topic is a new value.
type Topic struct {
	meta.Topic
	Partitions []Partition
}

// MaxMessageBytes is the largest record batch that the topic takes.
func (t *Topic) MaxMessageBytes() int64 { return number(t.Config, "max.message.bytes") }

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

	change sync.Mutex // held while a topic is made, grown or deleted

	mu     sync.RWMutex
	byName map[string]*Topic
	byID   map[meta.ID]*Topic
}

// Open finishes deletions that were interrupted and opens every log. A
// partition that cannot be opened is reported and does not hinder the others.
func Open(fsys vfs.FS, st *meta.Store, opts Options) (*Catalog, error) {
	c := &Catalog{fsys: fsys, meta: st, opts: opts, byName: map[string]*Topic{}, byID: map[meta.ID]*Topic{}}
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
	var g errgroup.Group
	g.SetLimit(openAtOnce)
	for _, mt := range st.Topics() {
		t := &Topic{Topic: mt, Partitions: make([]Partition, mt.Partitions)}
		c.put(t)
		for i := range t.Partitions {
			g.Go(func() error {
				t.Partitions[i] = c.openLog(mt, int32(i))
				return nil
			})
		}
	}
	return c, g.Wait()
}

func dirOf(topic string, part int32) string {
	return path.Join(root, fmt.Sprintf("%s-%d", topic, part))
}

func (c *Catalog) openLog(t meta.Topic, part int32) Partition {
	l, err := store.Open(c.fsys, dirOf(t.Name, part), store.Options{
		SegmentBytes: number(t.Config, "segment.bytes"),
		Epoch:        c.meta.Epoch(),
		Linger:       c.opts.Linger,
		Syncer:       c.opts.Syncer,
		Log:          c.opts.Log,
	})
	if err != nil {
		c.opts.Log.Error("open partition", "topic", t.Name, "partition", part, "err", err)
	}
	return Partition{l, err}
}

func (c *Catalog) put(t *Topic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byName[t.Name], c.byID[t.ID] = t, t
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

// Check says whether a topic could be made.
func (c *Catalog) Check(name string, partitions int32, config map[string]string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if c.Get(name) != nil {
		return fmt.Errorf("%w: %s", ErrExists, name)
	}
	if partitions < 1 || partitions > MaxPartitions {
		return fmt.Errorf("%w: %d, want 1 to %d", ErrPartitions, partitions, MaxPartitions)
	}
	if err := c.fits(partitions); err != nil {
		return err
	}
	return CheckConfig(config)
}

// fits checks the number of all partitions.
func (c *Catalog) fits(more int32) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	total := more
	for _, t := range c.byName {
		total += t.Topic.Partitions
	}
	if total > MaxTotal {
		return fmt.Errorf("%w: %d in all topics, at most %d are possible", ErrPartitions, total, MaxTotal)
	}
	return nil
}

// Create makes a topic. Its logs are durable before the state knows of it,
// and the state before any client does.
func (c *Catalog) Create(name string, partitions int32, config map[string]string) (*Topic, error) {
	c.change.Lock()
	defer c.change.Unlock()
	if err := c.Check(name, partitions, config); err != nil {
		return nil, err
	}
	for _, old := range c.meta.Deleting() {
		if old.Name != name {
			continue
		}
		if err := c.removeFiles(old); err != nil {
			return nil, fmt.Errorf("create topic %s: delete the former one: %w", name, err)
		}
	}
	t := &Topic{Topic: meta.Topic{Name: name, ID: meta.NewID(), Partitions: partitions, Config: config}}
	return t, c.extend(t, 0)
}

// Grow raises a topic's number of partitions.
func (c *Catalog) Grow(name string, partitions int32) error {
	c.change.Lock()
	defer c.change.Unlock()
	old := c.Get(name)
	if old == nil {
		return fmt.Errorf("%w: %s", ErrUnknown, name)
	}
	if err := CheckGrow(old, partitions); err != nil {
		return err
	}
	if err := c.fits(partitions - old.Topic.Partitions); err != nil {
		return err
	}
	t := &Topic{Topic: old.Topic, Partitions: slices.Clone(old.Partitions)}
	t.Topic.Partitions = partitions
	return c.extend(t, old.Topic.Partitions)
}

// CheckGrow says whether a topic can have that many partitions.
func CheckGrow(t *Topic, partitions int32) error {
	if partitions <= t.Topic.Partitions || partitions > MaxPartitions {
		return fmt.Errorf("%w: %d, topic has %d", ErrPartitions, partitions, t.Topic.Partitions)
	}
	return nil
}

// extend makes t's partitions from number from on, and publishes t.
func (c *Catalog) extend(t *Topic, from int32) error {
	var added []Partition
	for i := from; i < t.Topic.Partitions; i++ {
		if err := store.Create(c.fsys, dirOf(t.Name, i)); err != nil {
			closeAll(added)
			return fmt.Errorf("create topic %s: %w", t.Name, err)
		}
		p := c.openLog(t.Topic, i)
		if p.Err != nil {
			closeAll(added)
			return fmt.Errorf("create topic %s: %w", t.Name, p.Err)
		}
		added = append(added, p)
	}
	if err := c.meta.PutTopic(t.Topic); err != nil {
		closeAll(added)
		return fmt.Errorf("create topic %s: %w", t.Name, err)
	}
	t.Partitions = append(t.Partitions, added...)
	c.put(t)
	return nil
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

// Delete removes a topic: first from the state, which is what clients see,
// then its files.
func (c *Catalog) Delete(name string) error {
	c.change.Lock()
	defer c.change.Unlock()
	t := c.Get(name)
	if t == nil {
		return fmt.Errorf("%w: %s", ErrUnknown, name)
	}
	if err := c.meta.DeleteTopic(t.ID); err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	c.mu.Lock()
	delete(c.byName, name)
	delete(c.byID, t.ID)
	c.mu.Unlock()
	closeAll(t.Partitions)
	if err := c.removeFiles(t.Topic); err != nil {
		c.opts.Log.Warn("delete the files of a topic; tried again at the next start", "topic", name, "err", err)
	}
	return nil
}

func (c *Catalog) removeFiles(t meta.Topic) error {
	for i := range t.Partitions {
		if err := store.Remove(c.fsys, dirOf(t.Name, i)); err != nil {
			return err
		}
	}
	return c.meta.ForgetTopic(t.ID)
}

// Retain applies every topic's retention once.
func (c *Catalog) Retain() {
	for _, t := range c.All() {
		if strings.Contains(Value(t.Config, "cleanup.policy"), "compact") {
			continue
		}
		r := store.Retention{Bytes: number(t.Config, "retention.bytes"), Ms: number(t.Config, "retention.ms")}
		for i, p := range t.Partitions {
			if p.Log == nil {
				continue
			}
			if err := p.Log.Retain(r); err != nil {
				c.opts.Log.Warn("apply retention", "topic", t.Name, "partition", i, "err", err)
			}
		}
	}
}

// Close closes every log.
func (c *Catalog) Close() error {
	c.change.Lock()
	defer c.change.Unlock()
	var all []Partition
	for _, t := range c.All() {
		all = append(all, t.Partitions...)
	}
	return closeAll(all)
}

const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// CheckName holds a name to Kafka's rules. They also keep it a safe name of a
// directory.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%w: %q", ErrName, name)
	case len(name) > 249:
		return fmt.Errorf("%w: %d characters, at most 249 are allowed", ErrName, len(name))
	case strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(nameChars, r) }):
		return fmt.Errorf("%w: %q has characters other than letters, digits, dot, underscore and hyphen", ErrName, name)
	}
	return nil
}
