package server

import (
	"context"
	"time"

	"github.com/waysideos/wayside/services/broker/store"
)

// settleTime bounds settle, for a disk that stalls.
const settleTime = time.Second

// settle waits until what was appended to these logs before the request is
// readable, for the length of a sync. What acks=1 has acknowledged is readable
// at once in a Kafka with one replica; here it is after its sync, and a client
// that asks where the log ends must not find the end before its own record.
func settle(ctx context.Context, logs ...*store.Log) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	ends := make([]int64, len(logs)) // of all first: they are synced side by side
	for i, log := range logs {
		ends[i] = log.Stats().End
	}
	for i, log := range logs {
		if err := log.Wait(ctx, ends[i]); err != nil && ctx.Err() != nil {
			return // the log's own error is for those who wrote to it
		}
	}
}
