package group

import (
	"maps"
	"slices"
)

// uniform gives all members as many partitions as each other, as far as their
// subscriptions allow, and moves as few as it can.
func uniform(subs []subscriber) map[string]slots {
	out := map[string]slots{}
	alike := true
	for _, s := range subs {
		out[s.id] = slots{}
		alike = alike && slices.Equal(s.topics, subs[0].topics)
	}
	switch {
	case len(subs) == 0:
	case alike:
		spread(subs, out)
	default:
		balance(subs, out)
	}
	return out
}

// spread is for members that all subscribe to the same: each has a quota, and
// keeps of what it had as much.
func spread(subs []subscriber, out map[string]slots) {
	free := slots{}
	for _, t := range subs[0].topics {
		for p := range t.partitions {
			free[slot{t.id, p}] = 0
		}
	}
	quota, more := len(free)/len(subs), len(free)%len(subs)
	// Those that had most get one more, so that less moves.
	order := slices.Clone(subs)
	slices.SortStableFunc(order, func(a, b subscriber) int { return len(b.had) - len(a.had) })
	limit := map[string]int{}
	for i, s := range order {
		if limit[s.id] = quota; i < more {
			limit[s.id]++
		}
	}
	for _, s := range order {
		for _, at := range s.had.sorted() {
			if _, ok := free[at]; ok && len(out[s.id]) < limit[s.id] {
				delete(free, at)
				out[s.id][at] = 0
			}
		}
	}
	i := 0
	for _, at := range free.sorted() {
		for len(out[subs[i].id]) >= limit[subs[i].id] {
			i = (i + 1) % len(subs)
		}
		out[subs[i].id][at] = 0
		i = (i + 1) % len(subs)
	}
}

// maxWork bounds how long balance looks for something to move, in comparisons;
// what it has by then is whole, if not as even as could be.
const maxWork = 4 << 20

// scale is a distribution that is being balanced. Members are indexes.
type scale struct {
	subs  []subscriber
	out   map[string]slots
	users map[slot][]int // of a topic, by the slot of its partition 0
	work  int
}

func (b *scale) load(i int) int { return len(b.out[b.subs[i].id]) }

func (b *scale) usersOf(at slot) []int { return b.users[slot{topic: at.topic}] }

// least is the least loaded subscriber of a partition's topic.
func (b *scale) least(at slot) int {
	users := b.usersOf(at)
	b.work += len(users)
	return slices.MinFunc(users, func(i, j int) int { return b.load(i) - b.load(j) })
}

// balance is for members with different subscriptions: all keep what they
// had, what is nobody's goes to the least loaded, and then partitions move
// from the most loaded while that makes it more even.
func balance(subs []subscriber, out map[string]slots) {
	b := &scale{subs: subs, out: out, users: map[slot][]int{}}
	free := slots{}
	for i, s := range subs {
		for _, t := range s.topics {
			at := slot{topic: t.id}
			if b.users[at] = append(b.users[at], i); len(b.users[at]) > 1 {
				continue
			}
			for p := range t.partitions {
				free[slot{t.id, p}] = 0
			}
		}
	}
	for i, s := range subs {
		for at := range s.had {
			if _, ok := free[at]; ok && slices.Contains(b.usersOf(at), i) {
				delete(free, at)
				out[s.id][at] = 0
			}
		}
	}
	for _, at := range free.sorted() {
		out[subs[b.least(at)].id][at] = 0
	}
	for b.work < maxWork && b.move() {
	}
}

// move moves one partition from a member that has at least two more than
// another that could have it, the most loaded one first.
func (b *scale) move() bool {
	order := make([]int, len(b.subs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return b.load(j) - b.load(i) })
	for _, from := range order {
		held := b.out[b.subs[from].id]
		seen := map[slot]bool{}
		for _, at := range held.sorted() {
			if seen[slot{topic: at.topic}] {
				continue
			}
			seen[slot{topic: at.topic}] = true
			if to := b.least(at); b.load(from)-b.load(to) >= 2 {
				delete(held, at)
				b.out[b.subs[to].id][at] = 0
				return true
			}
		}
		b.work += len(held)
	}
	return false
}

func (s slots) sorted() []slot { return slices.SortedFunc(maps.Keys(s), slot.compare) }
