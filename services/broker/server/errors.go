package server

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/journal"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/broker/txn"
)

// codes says what a client is told about an error; the first match counts.
// Storage errors are told as one that every client retries.
var codes = []struct {
	err  error
	code *kerr.Error
}{
	{store.ErrMagic, kerr.UnsupportedForMessageFormat},
	{store.ErrCodec, kerr.UnsupportedCompressionType},
	{store.ErrTransaction, kerr.InvalidTxnState},
	{store.ErrTimestamp, kerr.InvalidTimestamp},
	{store.ErrTooLarge, kerr.MessageTooLarge},
	{store.ErrInvalid, kerr.InvalidRecord},
	{store.ErrCorrupt, kerr.CorruptMessage},
	{store.ErrOutOfRange, kerr.OffsetOutOfRange},
	{store.ErrOutOfOrder, kerr.OutOfOrderSequenceNumber},
	{store.ErrProducerEpoch, kerr.InvalidProducerEpoch},
	{store.ErrCoordinatorEpoch, kerr.TransactionCoordinatorFenced},
	{txn.ErrNotAdded, kerr.InvalidTxnState},
	{store.ErrReadOnly, kerr.KafkaStorageError},
	{store.ErrFull, kerr.KafkaStorageError},
	{store.ErrFiles, kerr.KafkaStorageError},
	{store.ErrClosed, kerr.NotLeaderForPartition},
	{catalog.ErrExists, kerr.TopicAlreadyExists},
	{catalog.ErrUnknown, kerr.UnknownTopicOrPartition},
	{catalog.ErrName, kerr.InvalidTopicException},
	{catalog.ErrPartitions, kerr.InvalidPartitions},
	{catalog.ErrConfig, kerr.InvalidConfig},
	{journal.ErrBroken, kerr.KafkaStorageError},
}

// code is the protocol's number for an error; 0 for nil. What is not in the
// table comes from the disk.
func code(err error) int16 {
	if err == nil {
		return 0
	}
	var k *kerr.Error
	if errors.As(err, &k) {
		return k.Code
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code.Code
		}
	}
	return kerr.KafkaStorageError.Code
}

// coordinatorCode is code for group requests, whose clients take a storage
// error for a defect of their own: they are told to try again.
func coordinatorCode(err error) int16 {
	if c := code(err); c != kerr.KafkaStorageError.Code {
		return c
	}
	return kerr.CoordinatorNotAvailable.Code
}

// message is an error's text for a response; nil for nil.
func message(err error) *string {
	if err == nil {
		return nil
	}
	s := err.Error()
	return &s
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
