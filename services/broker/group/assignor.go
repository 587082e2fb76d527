package group

import (
	"cmp"
	"slices"
)

// subscriber is a member as an assignor sees it.
type subscriber struct {
	id, instance string
	topics       []topic // that exist, by name
	had          slots   // its target so far
}

const uniformName = "uniform"

// assignors give every existing partition of every topic to exactly one of
// its subscribers. Equal input gives equal output.
var assignors = map[string]func([]subscriber) map[string]slots{
	uniformName: uniform,
	"range":     ranged,
}

// ranged gives each member a run of consecutive partitions of each topic, so
// that topics with as many partitions are divided alike.
func ranged(subs []subscriber) map[string]slots {
	subs = slices.SortedFunc(slices.Values(subs), func(a, b subscriber) int {
		return cmp.Compare(cmp.Or(a.instance, a.id), cmp.Or(b.instance, b.id))
	})
	out := map[string]slots{}
	users := map[topic][]string{}
	for _, s := range subs {
		out[s.id] = slots{}
		for _, t := range s.topics {
			users[t] = append(users[t], s.id)
		}
	}
	for t, ids := range users {
		each, more := t.partitions/int32(len(ids)), t.partitions%int32(len(ids))
		next := int32(0)
		for i, id := range ids {
			end := next + each
			if int32(i) < more {
				end++
			}
			for ; next < end; next++ {
				out[id][slot{t.id, next}] = 0
			}
		}
	}
	return out
}
