package meta

import (
	"encoding/hex"
	mrand "math/rand/v2"
	"time"
)

const kindLoss kind = 19 // Loss

// Loss says that acknowledged changes of the state are gone: its files were
// damaged, or are not there although records are. What is left may be of any
// earlier time, so whatever would be wrong to believe is given up with it:
// access rules and SCRAM credentials, of which some may have been taken back;
// members of groups; transactions under way, which are aborted.
type Loss struct {
	ID   string `json:"i"` // by which somebody says that it was seen
	What string `json:"w"`
	Ms   int64  `json:"m"` // Unix milliseconds, by the box's clock
	// PIDs is where producer ids begin again: at a place chosen by chance among
	// 2^60, so that none is given twice although nobody knows which were.
	PIDs    int64 `json:"p"`
	Rebuilt bool  `json:"r,omitempty"` // topics were made again from their folders
	Topics  int   `json:"t,omitempty"` // how many
	// Taken: what it takes away is gone from the changes that it stands among. An
	// older release, which does not know this kind, carries it to the end of its
	// snapshots, where it must not take away what was set since.
	Taken bool `json:"a,omitempty"`
}

// Found is what the disk says of a state that is lost.
type Found struct {
	Cluster string  // id of the cluster; empty when it is not known
	Epoch   int32   // the newest leader epoch that a log knows of
	Topics  []Topic // to be made, or grown where the id is known
}

func newLoss(what string) Loss {
	id := NewID()
	return Loss{
		ID: hex.EncodeToString(id[:4]), What: what, Ms: time.Now().UnixMilli(),
		PIDs: 1<<40 + mrand.Int64N(1<<60)/pidBlock*pidBlock,
	}
}

// Lost implements journal.Machine.
func (s *state) Lost(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLoss(newLoss(what))
}

func (s *state) putLoss(l Loss) {
	if !l.Taken && (s.loss == nil || s.loss.ID != l.ID) {
		quotas := s.quotas
		s.security = newSecurity()
		s.quotas = quotas
		s.txns, s.groups = newTxns(), nil
		s.nextPID = max(s.nextPID, l.PIDs)
	}
	s.loss = &l
}

// snapshotLoss comes before what a loss takes away, and takes away nothing.
func (s *state) snapshotLoss(emit func([]byte)) {
	if s.loss != nil {
		l := *s.loss
		l.Taken = true
		emit(encode(kindLoss, l))
	}
}

// Loss is the last one; false when there never was one.
func (st *Store) Loss() (Loss, bool) {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	if st.s.loss == nil {
		return Loss{}, false
	}
	return *st.s.loss, true
}

// Incomplete reports whether there may be topics on the disk that the state
// does not know: it knows none, or those that it lost were not made again yet.
func (st *Store) Incomplete() bool {
	if l, lost := st.Loss(); lost {
		return !l.Rebuilt
	}
	return len(st.Topics())+len(st.Deleting()) == 0
}

// Rebuild makes again what was found on the disk, and what must never be less
// than it was. A power cut under it leaves it to the next start. A state that
// knows no topics, and of which nothing is found, has lost nothing.
func (st *Store) Rebuild(f Found) error {
	l, lost := st.Loss()
	if !lost {
		if len(f.Topics) == 0 {
			return nil
		}
		l = newLoss("the broker's state is not there, and its records are")
		if err := st.j.Append(encode(kindLoss, l)); err != nil {
			return err
		}
	}
	if f.Cluster != "" {
		if err := st.j.Append(encode(kindCluster, f.Cluster)); err != nil {
			return err
		}
	}
	if f.Epoch >= st.Epoch() {
		if err := st.raiseEpoch(f.Epoch); err != nil {
			return err
		}
	}
	for _, t := range f.Topics {
		if err := st.PutTopic(t); err != nil {
			return err
		}
	}
	l.Rebuilt, l.Topics, l.Taken = true, len(f.Topics), true
	return st.j.Append(encode(kindLoss, l))
}
