package store

import "slices"

// epochStart says at which offset a leader epoch begins (KIP-101).
type epochStart struct {
	Epoch int32 `json:"e"`
	Start int64 `json:"o"`
}

// epochs are the leader epochs of a log, rising in both fields.
type epochs []epochStart

// begin notes that records from offset on have this epoch.
func (es epochs) begin(epoch int32, offset int64) epochs {
	if n := len(es); n > 0 && es[n-1].Epoch >= epoch {
		return es
	}
	// An epoch in which nothing was written leaves no trace.
	for n := len(es); n > 0 && es[n-1].Start >= offset; n = len(es) {
		es = es[:n-1]
	}
	return append(slices.Clip(es), epochStart{epoch, offset})
}

// trim forgets what lies before the log's start.
func (es epochs) trim(start int64) epochs {
	for len(es) > 1 && es[1].Start <= start {
		es = es[1:]
	}
	if len(es) > 0 && es[0].Start < start {
		es = slices.Clone(es)
		es[0].Start = start
	}
	return es
}

// end answers OffsetForLeaderEpoch: the largest epoch not above the asked
// one, and where it ends; -1, -1 for one that was never begun. An epoch older
// than all that are known, because nothing was written in it or retention has
// deleted it, ends where the oldest begins: told -1, consumers believe that
// the log was truncated and reset their position.
func (es epochs) end(epoch int32, leo int64) (int32, int64) {
	if n := len(es); n == 0 || epoch < 0 || epoch > es[n-1].Epoch {
		return -1, -1
	}
	for i := len(es) - 1; i >= 0; i-- {
		if es[i].Epoch > epoch {
			continue
		}
		if i == len(es)-1 {
			return es[i].Epoch, leo
		}
		return es[i].Epoch, es[i+1].Start
	}
	return epoch, es[0].Start
}
