package meta

import (
	"cmp"
	"maps"
	"slices"
)

// Scram is what a user proves a password by (RFC 5802); the password itself
// is not kept. The numbers of mechanisms are the protocol's: 1 is
// SCRAM-SHA-256, 2 is SCRAM-SHA-512.
type Scram struct {
	User       string `json:"u"`
	Mechanism  int8   `json:"m"`
	Iterations int32  `json:"i,omitempty"`
	Salt       []byte `json:"s,omitempty"`
	StoredKey  []byte `json:"k,omitempty"`
	ServerKey  []byte `json:"v,omitempty"`
	Deleted    bool   `json:"d,omitempty"` // the credential is taken away
}

type scramKey struct {
	user      string
	mechanism int8
}

// scramBatch is how many credentials one change of a snapshot holds.
const scramBatch = 500

// Scram returns a user's credential for a mechanism.
func (st *Store) Scram(user string, mechanism int8) (Scram, bool) {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	c, ok := st.s.scram[scramKey{user, mechanism}]
	return c, ok
}

// Scrams returns all credentials, by user and mechanism.
func (st *Store) Scrams() []Scram {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return sortedScrams(st.s.scram)
}

// AlterScrams puts credentials, and takes away those marked as deleted, all
// of them or none.
func (st *Store) AlterScrams(c []Scram) error { return st.j.Append(encode(kindScrams, c)) }

func (s *state) alterScrams(all []Scram) {
	for _, c := range all {
		key := scramKey{c.User, c.Mechanism}
		if c.Deleted {
			delete(s.scram, key)
			continue
		}
		s.scram[key] = c
	}
}

func (s *state) snapshotScrams(emit func([]byte)) {
	for part := range slices.Chunk(sortedScrams(s.scram), scramBatch) {
		emit(encode(kindScrams, part))
	}
}

func sortedScrams(m map[scramKey]Scram) []Scram {
	return slices.SortedFunc(maps.Values(m), func(a, b Scram) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Mechanism, b.Mechanism))
	})
}
