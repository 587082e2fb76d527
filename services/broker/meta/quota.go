package meta

import (
	"encoding/json"
	"maps"
	"slices"
)

// Quota is what one kind of client may use.
type Quota struct {
	Entity QuotaEntity        `json:"e"`
	Values map[string]float64 `json:"v,omitempty"` // by quota name, such as producer_byte_rate; empty forgets the entity
}

// QuotaEntity says whom a quota is for. Nil is "whatever it is", and a
// pointer to "" the default for those without a quota of their own.
type QuotaEntity struct {
	User     *string `json:"u,omitempty"`
	ClientID *string `json:"c,omitempty"`
	IP       *string `json:"i,omitempty"`
}

// Key is equal for equal entities.
func (e QuotaEntity) Key() string {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // three strings
	}
	return string(b)
}

// Quotas returns all quotas, in a steady order.
func (st *Store) Quotas() []Quota {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return sortedQuotas(st.s.quotas)
}

// Quota returns the quotas of one entity.
func (st *Store) Quota(e QuotaEntity) map[string]float64 {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return maps.Clone(st.s.quotas[e.Key()].Values)
}

// PutQuotas replaces the quotas of some entities, all of them or none.
func (st *Store) PutQuotas(q []Quota) error { return st.j.Append(encode(kindQuotas, q)) }

func (s *state) putQuotas(all []Quota) {
	for _, q := range all {
		if len(q.Values) == 0 {
			delete(s.quotas, q.Entity.Key())
			continue
		}
		s.quotas[q.Entity.Key()] = q
	}
}

const quotaBatch = 500

func (s *state) snapshotQuotas(emit func([]byte)) {
	for part := range slices.Chunk(sortedQuotas(s.quotas), quotaBatch) {
		emit(encode(kindQuotas, part))
	}
}

func sortedQuotas(m map[string]Quota) []Quota {
	out := make([]Quota, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[key])
	}
	return out
}
