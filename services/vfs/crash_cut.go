package vfs

import (
	"math/rand/v2"
	"slices"
)

// sector is what a disk writes whole or not at all, in bytes.
const sector = 512

// Crash cuts the power: every later operation on c fails, and the returned
// file system holds what the disk kept.
func (c *Crashable) Crash() *Crashable {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	return c.cut()
}

// CrashClone returns what a power cut at this instant would leave, and lets c
// go on.
func (c *Crashable) CrashClone() *Crashable {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut()
}

// mood is how much of the un-synced changes one crash keeps.
type mood int

const (
	keepNone mood = iota // the plug was faster than the disk
	keepAll              // the kernel had flushed already
	keepHead             // in order, up to an instant
	keepAny              // any subset, sector by sector
	moods
)

func (c *Crashable) cut() *Crashable {
	out := NewCrashable(c.rng.Uint64())
	k := &cutter{rng: c.rng, mood: mood(c.rng.IntN(int(moods))), nodes: map[*node]*node{}, kept: map[*byte]bool{}}
	out.root = k.node(c.root)
	out.capacity, out.fat = c.capacity, c.fat
	out.used = used(out.root, map[*node]bool{})
	return out
}

type cutter struct {
	rng   *rand.Rand
	mood  mood
	nodes map[*node]*node // one inode may be found under two names
	kept  map[*byte]bool  // fate of each change of names
}

func (k *cutter) node(n *node) *node {
	if done := k.nodes[n]; done != nil {
		return done
	}
	if n.kids == nil {
		data := k.file(n)
		k.nodes[n] = &node{data: data, base: slices.Clone(data), lost: freed{n.lost.durable, n.lost.durable}}
		return k.nodes[n]
	}
	dir := newDir()
	k.nodes[n] = dir
	names := map[string]*node{}
	for name, kid := range n.durable {
		names[name] = kid
	}
	for _, op := range n.dirOps {
		if k.keep(op.id) {
			op.apply(names)
			if op.frees != nil {
				k.node(op.frees).lost = freed{true, true}
			}
		}
	}
	for _, name := range sortedNames(names) {
		kid := k.node(names[name])
		dir.kids[name], dir.durable[name] = kid, kid
	}
	return dir
}

// keep decides once for each change of names, whichever directory asks.
func (k *cutter) keep(id *byte) bool {
	v, ok := k.kept[id]
	if !ok {
		v = k.toss()
		k.kept[id] = v
	}
	return v
}

func (k *cutter) toss() bool {
	switch k.mood {
	case keepNone:
		return false
	case keepAll:
		return true
	}
	return k.rng.IntN(2) == 0
}

func (k *cutter) file(n *node) []byte {
	data := slices.Clone(n.base)
	last := len(n.ops)
	if k.mood == keepHead && last > 0 {
		last = k.rng.IntN(last + 1)
	}
	for i, op := range n.ops[:last] {
		switch {
		case k.mood == keepNone:
		case k.mood == keepAll, k.mood == keepHead && i < last-1:
			data = op.apply(data)
		default:
			data = k.torn(data, op)
		}
	}
	return data
}

// torn applies a random subset of the change's sectors. The size may have
// reached the disk without the bytes: what is missing then reads as zeros.
func (k *cutter) torn(data []byte, op fileOp) []byte {
	if op.truncate {
		if k.toss() {
			return op.apply(data)
		}
		return data
	}
	for off := op.off; off < op.off+int64(len(op.data)); {
		end := min((off/sector+1)*sector, op.off+int64(len(op.data)))
		if k.toss() {
			part := fileOp{off: off, data: op.data[off-op.off : end-op.off]}
			data = part.apply(data)
		}
		off = end
	}
	return data
}

func used(n *node, seen map[*node]bool) int64 {
	if seen[n] {
		return 0
	}
	seen[n] = true
	sum := int64(len(n.data))
	for _, kid := range n.kids {
		sum += used(kid, seen)
	}
	return sum
}

func sortedNames(m map[string]*node) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
