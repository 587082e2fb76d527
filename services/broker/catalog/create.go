package catalog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// changeAtOnce bounds how many partitions and state changes of one request
// are on their way to the disk: their syncs share what the disk does.
const changeAtOnce = 16

// New is a topic to be made.
type New struct {
	Name       string
	Partitions int32
	Config     map[string]string
}

// Made is what became of it.
type Made struct {
	Topic *Topic
	Err   error
}

// Check says whether a topic could be made.
func (c *Catalog) Check(n New) error {
	if err := CheckName(n.Name); err != nil {
		return err
	}
	if c.Get(n.Name) != nil {
		return fmt.Errorf("%w: %s", ErrExists, n.Name)
	}
	if n.Partitions < 1 || n.Partitions > MaxPartitions {
		return fmt.Errorf("%w: %d, want 1 to %d", ErrPartitions, n.Partitions, MaxPartitions)
	}
	if err := c.fits(n.Partitions); err != nil {
		return err
	}
	return CheckConfig(n.Config)
}

// fits checks the number of all partitions.
func (c *Catalog) fits(more int32) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if total := c.partitions + more; total > MaxTotal {
		return fmt.Errorf("%w: %d in all topics, at most %d are possible", ErrPartitions, total, MaxTotal)
	}
	return nil
}

// Create makes one topic.
func (c *Catalog) Create(name string, partitions int32, config map[string]string) (*Topic, error) {
	made := c.CreateAll([]New{{name, partitions, config}})[0]
	return made.Topic, made.Err
}

// CheckAll says what CreateAll would do.
func (c *Catalog) CheckAll(topics []New) []Made {
	c.change.Lock()
	defer c.change.Unlock()
	return c.checkAll(topics)
}

// CreateAll makes topics, each for itself. The logs of a topic are durable
// before the state knows of it, and the state before any client does. One
// that fails leaves nothing behind.
func (c *Catalog) CreateAll(topics []New) []Made {
	c.change.Lock()
	defer c.change.Unlock()
	out := c.checkAll(topics)
	var jobs []*growth
	at := map[*growth]int{}
	for i, m := range out {
		if m.Err == nil {
			out[i].Err = c.removeFormer(m.Topic.Name)
		}
		if out[i].Err != nil {
			continue
		}
		m.Topic.ID = meta.NewID()
		g := &growth{topic: m.Topic}
		jobs, at[g] = append(jobs, g), i
	}
	c.extend(jobs)
	for g, i := range at {
		if out[i].Err = g.err(); out[i].Err != nil {
			out[i].Topic = nil
		}
	}
	return out
}

// checkAll also counts what the topics have together.
func (c *Catalog) checkAll(topics []New) []Made {
	out := make([]Made, len(topics))
	later := int32(0) // partitions of those that pass
	names := map[string]bool{}
	for i, n := range topics {
		err := c.Check(n)
		if err == nil && names[n.Name] {
			err = fmt.Errorf("%w: %s", ErrExists, n.Name)
		}
		if err == nil {
			err = c.fits(later + n.Partitions)
		}
		if out[i].Err = err; err != nil {
			continue
		}
		names[n.Name], later = true, later+n.Partitions
		out[i].Topic = c.resolve(meta.Topic{Name: n.Name, Partitions: n.Partitions, Config: maps.Clone(n.Config)}, nil)
	}
	return out
}

// removeFormer finishes the removal of a deleted topic of the same name.
func (c *Catalog) removeFormer(name string) error {
	for _, old := range c.meta.Deleting() {
		if old.Name != name {
			continue
		}
		if err := c.removeFiles(old); err != nil {
			return fmt.Errorf("create topic %s: delete the former one: %w", name, err)
		}
	}
	return nil
}

// Grow raises a topic's number of partitions.
func (c *Catalog) Grow(name string, partitions int32) error {
	c.change.Lock()
	defer c.change.Unlock()
	old := c.Get(name)
	if old == nil {
		return fmt.Errorf("%w: %s", ErrUnknown, name)
	}
	if err := c.CheckGrow(old, partitions); err != nil {
		return err
	}
	mt := old.Topic
	mt.Partitions = partitions
	g := &growth{topic: c.resolve(mt, slices.Clone(old.Partitions))}
	c.extend([]*growth{g})
	if err := g.err(); err != nil {
		return err
	}
	c.keep(mt)
	return nil
}

// CheckGrow says whether a topic can have that many partitions.
func (c *Catalog) CheckGrow(t *Topic, partitions int32) error {
	if partitions <= t.Topic.Partitions || partitions > MaxPartitions {
		return fmt.Errorf("%w: %d, topic has %d", ErrPartitions, partitions, t.Topic.Partitions)
	}
	return c.fits(partitions - t.Topic.Partitions)
}

// growth is a topic whose later partitions are being made.
type growth struct {
	topic *Topic
	mu    sync.Mutex
	errs  []error
}

func (g *growth) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.errs = append(g.errs, err)
}

func (g *growth) err() error {
	if len(g.errs) == 0 {
		return nil
	}
	return fmt.Errorf("create topic %s: %w", g.topic.Name, g.errs[0])
}

// extend makes the partitions that are missing, and publishes each topic
// whose partitions are all there.
func (c *Catalog) extend(jobs []*growth) {
	var making errgroup.Group
	making.SetLimit(changeAtOnce)
	from := make([]int, len(jobs))
	for i, g := range jobs {
		t := g.topic
		from[i] = len(t.Partitions)
		t.Partitions = append(t.Partitions, make([]Partition, int(t.Topic.Partitions)-from[i])...)
		for part := from[i]; part < len(t.Partitions); part++ {
			making.Go(func() error {
				c.makePartition(g, int32(part))
				return nil
			})
		}
	}
	making.Wait()
	var publishing errgroup.Group
	publishing.SetLimit(4 * changeAtOnce) // one sync of the journal serves many
	for i, g := range jobs {
		publishing.Go(func() error {
			c.publish(g, from[i])
			return nil
		})
	}
	publishing.Wait()
}

func (c *Catalog) makePartition(g *growth, part int32) {
	if err := store.Create(c.fsys, dirOf(g.topic.Name, part)); err != nil {
		g.fail(err)
		return
	}
	if part == 0 {
		c.keep(g.topic.Topic)
	}
	p := c.openLog(g.topic, part, false)
	if p.Err != nil {
		g.fail(p.Err)
		return
	}
	g.topic.Partitions[part] = p
}

// publish puts a topic into the state and before the clients, or removes what
// was made of it. After an error of the state the files stay: nobody knows
// which of the two the next start will find.
func (c *Catalog) publish(g *growth, from int) {
	t := g.topic
	if len(g.errs) == 0 {
		err := c.meta.PutTopic(t.Topic)
		if err == nil {
			c.put(t)
			return
		}
		g.fail(err)
		if !errors.Is(err, syscall.ENOSPC) { // then nothing was written
			closeAll(t.Partitions[from:])
			return
		}
	}
	closeAll(t.Partitions[from:])
	for part := from; part < len(t.Partitions); part++ {
		if err := c.removeEmpty(dirOf(t.Name, int32(part))); err != nil {
			c.opts.Log.Warn("remove what is left of a topic that could not be made", "topic", t.Name, "partition", part, "err", err)
		}
	}
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
