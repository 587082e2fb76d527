package server

import (
	"context"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/store"
)

// api is one row of the protocol: a key, the versions that are told to
// clients, and what answers them. Each NN_name.go holds one. The comment on
// its variable goes into docs/kafka-compatibility.md as it stands: what it
// answers, and what is left out and why (a test holds the page to it).
type api struct {
	key      kmsg.Key
	min, max int16
	// handle answers a request. A request that it cannot answer at all is an
	// error, and the end of the connection.
	handle func(*Server, context.Context, *request) (answer, error)
}

// apis is the whole protocol; ApiVersions answers from it.
func apis() []api {
	return []api{
		produceAPI, fetchAPI, listOffsetsAPI, metadataAPI,
		offsetCommitAPI, offsetFetchAPI, findCoordinatorAPI,
		joinGroupAPI, heartbeatAPI, leaveGroupAPI, syncGroupAPI, describeGroupsAPI, listGroupsAPI,
		saslHandshakeAPI, saslAuthenticateAPI, describeACLsAPI, createACLsAPI, deleteACLsAPI,
		describeClientQuotasAPI, alterClientQuotasAPI, describeUserScramAPI, alterUserScramAPI,
		apiVersionsAPI, createTopicsAPI, deleteTopicsAPI, deleteRecordsAPI,
		initProducerIDAPI, offsetForLeaderEpochAPI,
		addPartitionsToTxnAPI, addOffsetsToTxnAPI, endTxnAPI, writeTxnMarkersAPI, txnOffsetCommitAPI,
		describeTransactionsAPI, listTransactionsAPI,
		describeConfigsAPI, alterConfigsAPI, alterReplicaLogDirsAPI, describeLogDirsAPI, createPartitionsAPI, deleteGroupsAPI,
		offsetDeleteAPI, consumerGroupHeartbeatAPI, consumerGroupDescribeAPI,
		electLeadersAPI, incrementalAlterConfigsAPI, alterPartitionAssignmentsAPI, listPartitionReassignmentsAPI,
		shareGroupHeartbeatAPI, shareGroupDescribeAPI, shareFetchAPI, shareAcknowledgeAPI,
		describeShareGroupOffsetsAPI, alterShareGroupOffsetsAPI, deleteShareGroupOffsetsAPI,
		describeQuorumAPI, updateFeaturesAPI, describeClusterAPI, describeProducersAPI, listConfigResourcesAPI, describeTopicPartitionsAPI,
	}
}

// request is one request as read from a connection, and its answer.
type request struct {
	conn         net.Conn
	from         *conn
	key, version int16
	correlation  int32
	client       string
	raw          bool  // a SASL message that came without a header
	flexible     bool  // header and body use compact encodings (KIP-482)
	size         int32 // of header and body
	body         []byte
	sums         sums         // of header and body, until the next request is read
	msg          kmsg.Request // decoded body; nil for Produce, which decodes its own
	answer       answer
}

// answer is what a handler leaves to be written, in request order.
type answer struct {
	msg kmsg.Response // nil: nothing is sent, or fetch is
	// later, if not nil, completes msg when what it says is durable. The
	// connection's later requests go on meanwhile.
	later interface {
		ready() bool
		wait(context.Context)
	}
	fetch streamed
	raw   []byte // instead of a response with a header (SaslHandshake version 0)
}

// streamed is a response whose records are still in their files: they go to
// the socket without being held in memory.
type streamed interface {
	// appendTo encodes all but the records; gap is told where those belong.
	appendTo(b []byte, version int16, gap func(*store.Slice, int)) []byte
	recordBytes() int64
	setThrottle(ms int32)
	release()
}

// release lets the files go.
func (a *answer) release() {
	if a.fetch != nil {
		a.fetch.release()
	}
}

// typed turns a handler of one request type into an api's.
func typed[R kmsg.Request](f func(*Server, context.Context, *request, R) kmsg.Response) func(*Server, context.Context, *request) (answer, error) {
	return func(s *Server, ctx context.Context, r *request) (answer, error) {
		return answer{msg: f(s, ctx, r, r.msg.(R))}, nil
	}
}
