package server

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/share"
	"github.com/waysideos/wayside/services/broker/txn"
)

// rule allows whoever did not log in something.
func rule(kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) meta.ACL {
	return meta.ACL{Type: int8(kind), Name: name, Pattern: int8(kmsg.ACLResourcePatternTypeLiteral), Principal: auth.Anonymous,
		Host: "127.0.0.1", Operation: int8(op), Permission: int8(kmsg.ACLPermissionTypeAllow)}
}

func onTopic(op kmsg.ACLOperation) meta.ACL { return rule(kmsg.ACLResourceTypeTopic, "t", op) }
func onGroup(op kmsg.ACLOperation) meta.ACL { return rule(kmsg.ACLResourceTypeGroup, "g", op) }
func onTxn(op kmsg.ACLOperation) meta.ACL   { return rule(kmsg.ACLResourceTypeTransactionalId, "x", op) }
func onCluster(op kmsg.ACLOperation) meta.ACL {
	return rule(kmsg.ACLResourceTypeCluster, clusterName, op)
}

// Operations, shorter.
const (
	mayRead            = kmsg.ACLOperationRead
	mayWrite           = kmsg.ACLOperationWrite
	mayCreate          = kmsg.ACLOperationCreate
	mayDelete          = kmsg.ACLOperationDelete
	mayAlter           = kmsg.ACLOperationAlter
	mayDescribe        = kmsg.ACLOperationDescribe
	mayAct             = kmsg.ACLOperationClusterAction
	mayDescribeConfigs = kmsg.ACLOperationDescribeConfigs
	mayAlterConfigs    = kmsg.ACLOperationAlterConfigs
	mayWriteOnce       = kmsg.ACLOperationIdempotentWrite
)

// Codes, shorter.
var (
	noTopicRight   = kerr.TopicAuthorizationFailed
	noGroupRight   = kerr.GroupAuthorizationFailed
	noClusterRight = kerr.ClusterAuthorizationFailed
	noTxnRight     = kerr.TransactionalIDAuthorizationFailed
)

// access is what one request needs. Without any rule its answer holds the
// refusal; without any one of the rules it holds some refusal or hides
// something; with all of them it holds none, and no error but those of ok.
type access struct {
	fill  func(kmsg.Request, *Server)
	none  *kerr.Error // nil: the answer is empty rather than an error
	rules []meta.ACL
	any   bool // any one of the rules is enough
	ok    []*kerr.Error
	free  string // why nothing is needed
	// count says how much an answer shows, where hiding is the refusal.
	count func(kmsg.Response) int
}

func set[R kmsg.Request](f func(R, *Server)) func(kmsg.Request, *Server) {
	return func(r kmsg.Request, s *Server) { f(r.(R), s) }
}

func accesses() map[kmsg.Key][]access {
	str := func(s string) *string { return &s }
	topicID := func(s *Server) [16]byte { return s.Catalog.Get("t").ID }
	cluster := func(op kmsg.ACLOperation, f func(kmsg.Request, *Server), ok ...*kerr.Error) []access {
		return []access{{fill: f, none: noClusterRight, rules: []meta.ACL{onCluster(op)}, ok: ok}}
	}
	group := func(op kmsg.ACLOperation, f func(kmsg.Request, *Server), ok ...*kerr.Error) []access {
		return []access{{fill: f, none: noGroupRight, rules: []meta.ACL{onGroup(op)}, ok: ok}}
	}
	topic := func(op kmsg.ACLOperation, f func(kmsg.Request, *Server), ok ...*kerr.Error) []access {
		return []access{{fill: f, none: noTopicRight, rules: []meta.ACL{onTopic(op)}, ok: ok}}
	}
	configs := func(kind kmsg.ConfigResourceType, name string) func(kmsg.Request, *Server) {
		return func(r kmsg.Request, _ *Server) {
			switch r := r.(type) {
			case *kmsg.DescribeConfigsRequest:
				r.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name}}
			case *kmsg.AlterConfigsRequest:
				r.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kind, ResourceName: name}}
			case *kmsg.IncrementalAlterConfigsRequest:
				r.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name}}
			}
		}
	}
	configAccess := func(op kmsg.ACLOperation) []access {
		return []access{
			{fill: configs(kmsg.ConfigResourceTypeTopic, "t"), none: noTopicRight, rules: []meta.ACL{onTopic(op)}},
			{fill: configs(kmsg.ConfigResourceTypeBroker, "1"), none: noClusterRight, rules: []meta.ACL{onCluster(op)}},
		}
	}
	produce := func(transactional bool) func(kmsg.Request, *Server) {
		return set(func(r *kmsg.ProduceRequest, s *Server) {
			r.Acks = -1
			records := batchOf(1, 10, 0)
			if transactional {
				r.TransactionID = str("x")
				records = batchOf(1, 10, 0x10)
				copy(records[43:], make([]byte, 14)) // producer 0, epoch 0, sequence 0
				binary.BigEndian.PutUint32(records[17:], crc32.Checksum(records[21:], crc32.MakeTable(crc32.Castagnoli)))
			}
			r.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", TopicID: topicID(s),
				Partitions: []kmsg.ProduceRequestTopicPartition{{Records: records}}}}
		})
	}
	return map[kmsg.Key][]access{
		kmsg.Produce: {
			{fill: produce(false), none: noTopicRight, rules: []meta.ACL{onTopic(mayWrite)}},
			{fill: produce(true), none: noTopicRight, rules: []meta.ACL{onTopic(mayWrite), onTxn(mayWrite)},
				ok: []*kerr.Error{kerr.InvalidProducerIDMapping}},
		},
		kmsg.Fetch: topic(mayRead, set(func(r *kmsg.FetchRequest, s *Server) {
			p := kmsg.NewFetchRequestTopicPartition()
			p.PartitionMaxBytes = 1000
			r.Topics = []kmsg.FetchRequestTopic{{Topic: "t", TopicID: topicID(s), Partitions: []kmsg.FetchRequestTopicPartition{p}}}
		})),
		kmsg.ListOffsets: topic(mayDescribe, set(func(r *kmsg.ListOffsetsRequest, _ *Server) {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Timestamp = -1
			r.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
		})),
		kmsg.Metadata: {
			{fill: set(func(r *kmsg.MetadataRequest, _ *Server) { r.Topics = []kmsg.MetadataRequestTopic{{Topic: str("t")}} }),
				none: noTopicRight, rules: []meta.ACL{onTopic(mayDescribe)}},
			{fill: set(func(r *kmsg.MetadataRequest, _ *Server) { r.Topics = nil }), rules: []meta.ACL{onTopic(mayDescribe)},
				count: func(r kmsg.Response) int { return len(r.(*kmsg.MetadataResponse).Topics) }},
			{fill: set(func(r *kmsg.MetadataRequest, _ *Server) {
				r.Topics, r.AllowAutoTopicCreation = []kmsg.MetadataRequestTopic{{Topic: str("new")}}, true
			}), none: noTopicRight, rules: []meta.ACL{rule(kmsg.ACLResourceTypeTopic, "new", mayDescribe), rule(kmsg.ACLResourceTypeTopic, "new", mayCreate)}},
		},
		kmsg.OffsetCommit: {{fill: set(func(r *kmsg.OffsetCommitRequest, s *Server) {
			r.Group, r.Generation = "g", -1
			r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", TopicID: topicID(s),
				Partitions: []kmsg.OffsetCommitRequestTopicPartition{kmsg.NewOffsetCommitRequestTopicPartition()}}}
		}), none: noGroupRight, rules: []meta.ACL{onGroup(mayRead), onTopic(mayRead)}}},
		kmsg.OffsetFetch: {{fill: set(func(r *kmsg.OffsetFetchRequest, s *Server) {
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group = "g"
			g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", TopicID: topicID(s), Partitions: []int32{0}}}
			r.Groups = []kmsg.OffsetFetchRequestGroup{g}
		}), none: noGroupRight, rules: []meta.ACL{onGroup(mayDescribe), onTopic(mayDescribe)}}},
		kmsg.FindCoordinator: {
			{fill: set(func(r *kmsg.FindCoordinatorRequest, _ *Server) { r.CoordinatorKeys = []string{"g"} }),
				none: noGroupRight, rules: []meta.ACL{onGroup(mayDescribe)}},
			{fill: set(func(r *kmsg.FindCoordinatorRequest, _ *Server) {
				r.CoordinatorType, r.CoordinatorKeys = 1, []string{"x"}
			}),
				none: noTxnRight, rules: []meta.ACL{onTxn(mayDescribe)}},
		},
		kmsg.JoinGroup: group(mayRead, set(func(r *kmsg.JoinGroupRequest, _ *Server) {
			r.Group, r.SessionTimeoutMillis, r.ProtocolType = "g", 10000, "consumer"
			r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		}), kerr.MemberIDRequired),
		kmsg.Heartbeat: group(mayRead, set(func(r *kmsg.HeartbeatRequest, _ *Server) { r.Group = "g" }), kerr.UnknownMemberID, kerr.CoordinatorNotAvailable),
		kmsg.LeaveGroup: group(mayRead, set(func(r *kmsg.LeaveGroupRequest, _ *Server) {
			r.Group, r.Members = "g", []kmsg.LeaveGroupRequestMember{{MemberID: "m"}}
		}), kerr.UnknownMemberID),
		kmsg.SyncGroup:      group(mayRead, set(func(r *kmsg.SyncGroupRequest, _ *Server) { r.Group = "g" }), kerr.UnknownMemberID),
		kmsg.DescribeGroups: group(mayDescribe, set(func(r *kmsg.DescribeGroupsRequest, _ *Server) { r.Groups = []string{"g"} }), kerr.GroupIDNotFound),
		kmsg.ListGroups: {
			{rules: []meta.ACL{onGroup(mayDescribe)}, count: listed},
			{rules: []meta.ACL{onCluster(mayDescribe)}, count: listed},
		},
		kmsg.SASLHandshake:    {{free: "it is how a client says who it is", ok: []*kerr.Error{kerr.IllegalSaslState}}},
		kmsg.SASLAuthenticate: {{free: "it is how a client says who it is", ok: []*kerr.Error{kerr.IllegalSaslState}}},
		kmsg.ApiVersions:      {{free: "a client knows nothing yet"}},
		kmsg.DescribeCluster:  {{free: "as in Kafka, like the broker in Metadata"}},
		kmsg.CreateTopics: {
			{fill: creating, none: noTopicRight, rules: []meta.ACL{rule(kmsg.ACLResourceTypeTopic, "new", mayCreate)}},
			{fill: creating, none: noTopicRight, rules: []meta.ACL{onCluster(mayCreate)}},
		},
		kmsg.DeleteTopics: topic(mayDelete, set(func(r *kmsg.DeleteTopicsRequest, _ *Server) {
			r.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: str("t")}}
		})),
		kmsg.DeleteRecords: topic(mayDelete, set(func(r *kmsg.DeleteRecordsRequest, _ *Server) {
			r.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: -1}}}}
		})),
		kmsg.InitProducerID: {
			{none: noClusterRight, rules: []meta.ACL{onCluster(mayWriteOnce), onTopic(mayWrite)}, any: true},
			{fill: set(func(r *kmsg.InitProducerIDRequest, _ *Server) {
				r.TransactionalID, r.TransactionTimeoutMillis = str("x"), 1000
			}),
				none: noTxnRight, rules: []meta.ACL{onTxn(mayWrite)}},
		},
		kmsg.OffsetForLeaderEpoch: topic(mayDescribe, set(func(r *kmsg.OffsetForLeaderEpochRequest, _ *Server) {
			p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			r.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}}}
		})),
		kmsg.AddPartitionsToTxn: {{fill: set(func(r *kmsg.AddPartitionsToTxnRequest, _ *Server) {
			r.SetVersion(3) // 4 and later are of brokers
			r.TransactionalID, r.Topics = "x", []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: []int32{0}}}
		}), none: noTxnRight, rules: []meta.ACL{onTxn(mayWrite), onTopic(mayWrite)}, ok: []*kerr.Error{kerr.InvalidProducerIDMapping}}, {
			fill: set(func(r *kmsg.AddPartitionsToTxnRequest, _ *Server) {
				r.Transactions = []kmsg.AddPartitionsToTxnRequestTransaction{{TransactionalID: "x"}}
			}), none: noClusterRight, rules: []meta.ACL{onCluster(mayAct)}, ok: []*kerr.Error{kerr.InvalidProducerIDMapping}}},
		kmsg.AddOffsetsToTxn: {{fill: set(func(r *kmsg.AddOffsetsToTxnRequest, _ *Server) { r.TransactionalID, r.Group = "x", "g" }),
			none: noTxnRight, rules: []meta.ACL{onTxn(mayWrite), onGroup(mayRead)}, ok: []*kerr.Error{kerr.InvalidProducerIDMapping}}},
		kmsg.EndTxn: {{fill: set(func(r *kmsg.EndTxnRequest, _ *Server) { r.TransactionalID = "x" }),
			none: noTxnRight, rules: []meta.ACL{onTxn(mayWrite)}, ok: []*kerr.Error{kerr.InvalidProducerIDMapping}}},
		kmsg.WriteTxnMarkers: {
			{fill: marking, none: noClusterRight, rules: []meta.ACL{onCluster(mayAct)}},
			{fill: marking, none: noClusterRight, rules: []meta.ACL{onCluster(mayAlter)}},
		},
		kmsg.TxnOffsetCommit: {{fill: set(func(r *kmsg.TxnOffsetCommitRequest, s *Server) {
			r.TransactionalID, r.Group, r.Generation = "x", "g", -1
			r.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", TopicID: topicID(s),
				Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{kmsg.NewTxnOffsetCommitRequestTopicPartition()}}}
		}), none: noTxnRight, rules: []meta.ACL{onTxn(mayWrite), onGroup(mayRead), onTopic(mayRead)},
			ok: []*kerr.Error{kerr.InvalidProducerIDMapping}}},
		kmsg.DescribeACLs: cluster(mayDescribe, set(func(r *kmsg.DescribeACLsRequest, _ *Server) {
			r.ResourceType, r.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
			r.Operation, r.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
		})),
		kmsg.CreateACLs: cluster(mayAlter, set(func(r *kmsg.CreateACLsRequest, _ *Server) {
			r.Creations = []kmsg.CreateACLsRequestCreation{{ResourceType: kmsg.ACLResourceTypeTopic, ResourceName: "t", Principal: "User:a", Host: "*",
				ResourcePatternType: kmsg.ACLResourcePatternTypeLiteral, Operation: mayRead, PermissionType: kmsg.ACLPermissionTypeAllow}}
		})),
		kmsg.DeleteACLs: cluster(mayAlter, set(func(r *kmsg.DeleteACLsRequest, _ *Server) {
			r.Filters = []kmsg.DeleteACLsRequestFilter{{ResourceType: kmsg.ACLResourceTypeGroup, ResourcePatternType: kmsg.ACLResourcePatternTypeAny,
				Operation: kmsg.ACLOperationAny, PermissionType: kmsg.ACLPermissionTypeAny}}
		})),
		kmsg.DescribeConfigs:         configAccess(mayDescribeConfigs),
		kmsg.AlterConfigs:            configAccess(mayAlterConfigs),
		kmsg.IncrementalAlterConfigs: configAccess(mayAlterConfigs),
		kmsg.DescribeLogDirs:         cluster(mayDescribe, nil),
		kmsg.DescribeQuorum:          cluster(mayDescribe, nil),
		kmsg.AlterReplicaLogDirs: cluster(mayAlter, set(func(r *kmsg.AlterReplicaLogDirsRequest, _ *Server) {
			r.Dirs = []kmsg.AlterReplicaLogDirsRequestDir{{Dir: logDir, Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "t", Partitions: []int32{0}}}}}
		})),
		kmsg.CreatePartitions: topic(mayAlter, set(func(r *kmsg.CreatePartitionsRequest, _ *Server) {
			r.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: 2}}
		})),
		kmsg.DeleteGroups: group(mayDelete, set(func(r *kmsg.DeleteGroupsRequest, _ *Server) { r.Groups = []string{"g"} })),
		kmsg.ElectLeaders: cluster(mayAlter, set(func(r *kmsg.ElectLeadersRequest, _ *Server) {
			r.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "t", Partitions: []int32{0}}}
		}), kerr.ElectionNotNeeded),
		kmsg.AlterPartitionAssignments: cluster(mayAlter, set(func(r *kmsg.AlterPartitionAssignmentsRequest, _ *Server) {
			r.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "t", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Replicas: []int32{1}}}}}
		})),
		kmsg.ListPartitionReassignments: cluster(mayDescribe, nil),
		kmsg.OffsetDelete: {{fill: set(func(r *kmsg.OffsetDeleteRequest, _ *Server) {
			r.Group, r.Topics = "g", []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}
		}), none: noGroupRight, rules: []meta.ACL{onGroup(mayDelete), onTopic(mayRead)}}},
		kmsg.DescribeClientQuotas: cluster(mayDescribeConfigs, nil),
		kmsg.AlterClientQuotas: cluster(mayAlterConfigs, set(func(r *kmsg.AlterClientQuotasRequest, _ *Server) {
			r.Entries = []kmsg.AlterClientQuotasRequestEntry{{Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "user", Name: str("a")}}}}
		})),
		kmsg.DescribeUserSCRAMCredentials: cluster(mayDescribe, nil),
		kmsg.AlterUserSCRAMCredentials: cluster(mayAlter, set(func(r *kmsg.AlterUserSCRAMCredentialsRequest, _ *Server) {
			r.Upsertions = []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{{Name: "a", Mechanism: 1, Iterations: 4096, Salt: []byte("s"), SaltedPassword: []byte("p")}}
		})),
		kmsg.UpdateFeatures: cluster(mayAlter, nil),
		kmsg.DescribeProducers: topic(mayRead, set(func(r *kmsg.DescribeProducersRequest, _ *Server) {
			r.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: []int32{0}}}
		})),
		kmsg.DescribeTransactions: {{fill: set(func(r *kmsg.DescribeTransactionsRequest, _ *Server) { r.TransactionalIDs = []string{"x"} }),
			none: noTxnRight, rules: []meta.ACL{onTxn(mayDescribe)}, ok: []*kerr.Error{kerr.TransactionalIDNotFound}}},
		kmsg.ListTransactions: {{fill: func(_ kmsg.Request, s *Server) {
			s.Txns.Init(context.Background(), txn.Init{Txn: "x", Timeout: time.Minute, ID: -1, Epoch: -1})
		}, rules: []meta.ACL{onTxn(mayDescribe)}, count: func(r kmsg.Response) int {
			return len(r.(*kmsg.ListTransactionsResponse).TransactionStates)
		}}},
		kmsg.ConsumerGroupHeartbeat: {{fill: set(func(r *kmsg.ConsumerGroupHeartbeatRequest, _ *Server) {
			r.Group, r.MemberID, r.RebalanceTimeoutMillis = "g2", "AAAAAAAAAAAAAAAAAAAAAA", 1000
			r.SubscribedTopicNames, r.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		}), none: noGroupRight, rules: []meta.ACL{rule(kmsg.ACLResourceTypeGroup, "g2", mayRead), onTopic(mayDescribe)}}},
		kmsg.ConsumerGroupDescribe: group(mayDescribe, set(func(r *kmsg.ConsumerGroupDescribeRequest, _ *Server) { r.Groups = []string{"g"} }), kerr.GroupIDNotFound),
		kmsg.ListConfigResources:   cluster(mayDescribeConfigs, nil),
		kmsg.ShareGroupHeartbeat: {{fill: set(func(r *kmsg.ShareGroupHeartbeatRequest, _ *Server) {
			r.GroupID, r.MemberID, r.SubscribedTopicNames = "s", "AAAAAAAAAAAAAAAAAAAAAA", []string{"t"}
		}), none: noGroupRight, rules: []meta.ACL{onShares(mayRead), onTopic(mayDescribe)}}},
		kmsg.ShareGroupDescribe: {
			{fill: set(func(r *kmsg.ShareGroupDescribeRequest, s *Server) {
				s.Shares.Heartbeat(share.HeartbeatRequest{Group: "s", MemberID: "m", Topics: []string{"t"}})
				r.GroupIDs = []string{"s"}
			}), none: noGroupRight, rules: []meta.ACL{onShares(mayDescribe), onTopic(mayDescribe)}},
		},
		kmsg.ShareFetch: {{fill: set(func(r *kmsg.ShareFetchRequest, s *Server) {
			r.GroupID, r.MemberID, r.MaxRecords = str("s"), str("m"), 1
			r.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: topicID(s), Partitions: []kmsg.ShareFetchRequestTopicPartition{{}}}}
		}), none: noGroupRight, rules: []meta.ACL{onShares(mayRead), onTopic(mayRead)}}},
		kmsg.ShareAcknowledge: {{fill: set(func(r *kmsg.ShareAcknowledgeRequest, s *Server) {
			r.GroupID, r.MemberID, r.ShareSessionEpoch = str("s"), str("m"), 1
		}), none: noGroupRight, rules: []meta.ACL{onShares(mayRead)}, ok: []*kerr.Error{kerr.ShareSessionNotFound}}},
		kmsg.DescribeShareGroupOffsets: {{fill: set(func(r *kmsg.DescribeShareGroupOffsetsRequest, _ *Server) {
			g := kmsg.NewDescribeShareGroupOffsetsRequestGroup()
			g.GroupID, g.Topics = "s", []kmsg.DescribeShareGroupOffsetsRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}}
			r.Groups = []kmsg.DescribeShareGroupOffsetsRequestGroup{g}
		}), none: noGroupRight, rules: []meta.ACL{onShares(mayDescribe), onTopic(mayDescribe)}}},
		kmsg.AlterShareGroupOffsets: {{fill: set(func(r *kmsg.AlterShareGroupOffsetsRequest, _ *Server) {
			r.GroupID, r.Topics = "s", []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{}}}}
		}), none: noGroupRight, rules: []meta.ACL{onShares(mayRead), onTopic(mayRead)}}},
		kmsg.DeleteShareGroupOffsets: {{fill: set(func(r *kmsg.DeleteShareGroupOffsetsRequest, s *Server) {
			key := share.Partition{Topic: topicID(s)}
			s.Shares.Put("s", []share.Start{{Partition: key, Log: s.Catalog.Get("t").Partitions[0].Log}}, false)
			r.GroupID, r.Topics = "s", []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: "t"}}
		}), none: noGroupRight, rules: []meta.ACL{onShares(mayDelete), onTopic(mayRead)}}},
		kmsg.DescribeTopicPartitions: {
			{fill: set(func(r *kmsg.DescribeTopicPartitionsRequest, _ *Server) {
				r.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "t"}}
			}), none: noTopicRight, rules: []meta.ACL{onTopic(mayDescribe)}},
		},
	}
}

func onShares(op kmsg.ACLOperation) meta.ACL { return rule(kmsg.ACLResourceTypeGroup, "s", op) }

func listed(r kmsg.Response) int { return len(r.(*kmsg.ListGroupsResponse).Groups) }

func creating(r kmsg.Request, _ *Server) {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = "new", 1, 1
	r.(*kmsg.CreateTopicsRequest).Topics = []kmsg.CreateTopicsRequestTopic{t}
}

func marking(r kmsg.Request, _ *Server) {
	r.(*kmsg.WriteTxnMarkersRequest).Markers = []kmsg.WriteTxnMarkersRequestMarker{
		{ProducerID: 1, Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: "t", Partitions: []int32{0}}}}}
}

// TestAccess asks for everything there is: without rights, with all that is
// needed, and with all but one.
func TestAccess(t *testing.T) {
	table := accesses()
	for _, a := range apis() {
		rows := table[a.key]
		if len(rows) == 0 {
			t.Errorf("%s is in no row of this test: who may do it?", a.key.Name())
		}
		for i, row := range rows {
			t.Run(a.key.Name()+"/"+string(rune('a'+i)), func(t *testing.T) { row.check(t, a) })
		}
	}
}

func (w access) check(t *testing.T, a api) {
	s, send := accessServer(t, a, w)
	show := func(rules ...meta.ACL) (codes []int16, n int) {
		s.Authorizer.Set(rules)
		resp := send()
		if w.count != nil {
			n = w.count(resp)
		}
		return errorCodes(reflect.ValueOf(resp)), n
	}
	codes, n := show()
	switch {
	case w.free != "":
	case w.none == nil && (n > 0 || w.count == nil):
		t.Errorf("without rights: %d are shown", n)
	case w.none != nil && !slices.Contains(codes, w.none.Code):
		t.Errorf("without rights: codes %v, want %d (%s)", codes, w.none.Code, w.none.Message)
	}
	for i := range w.rules {
		if len(w.rules) == 1 || w.any {
			break
		}
		if codes, _ := show(slices.Delete(slices.Clone(w.rules), i, i+1)...); !slices.ContainsFunc(codes, isRefusal) {
			t.Errorf("without rule %d: codes %v, want a refusal", i, codes)
		}
	}
	grants := [][]meta.ACL{w.rules}
	if w.any {
		grants = nil
		for _, r := range w.rules {
			grants = append(grants, []meta.ACL{r})
		}
	}
	for _, rules := range grants {
		codes, n = show(rules...)
		for _, c := range codes {
			if c != 0 && !slices.ContainsFunc(w.ok, func(e *kerr.Error) bool { return e.Code == c }) {
				t.Errorf("with rights: %v", kerr.ErrorForCode(c))
			}
		}
		if w.count != nil && n == 0 {
			t.Error("with rights: nothing is shown")
		}
	}
}

// accessServer is a server with a topic, a group and an authorizer, and the
// way to send it the row's request.
func accessServer(t *testing.T, a api, w access) (*Server, func() kmsg.Response) {
	s := newServer(t)
	s.Authorizer = auth.NewAuthorizer(auth.Policy{}, nil)
	if _, err := s.Catalog.Create("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Meta.Commit("g", []meta.Offset{{Topic: "t", LeaderEpoch: -1}}); err != nil {
		t.Fatal(err)
	}
	c := dial(t, listen(t, s))
	return s, func() kmsg.Response {
		req := kmsg.RequestForKey(a.key.Int16())
		req.SetVersion(a.max)
		if d, ok := req.(interface{ Default() }); ok {
			d.Default()
		}
		if w.fill != nil {
			w.fill(req, s)
		}
		c.Write(frameOf(req, 1))
		_, body := readFrame(t, c)
		resp := req.ResponseKind()
		if resp.IsFlexible() && a.key != kmsg.ApiVersions {
			body = body[1:]
		}
		if err := resp.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		return resp
	}
}

func isRefusal(code int16) bool {
	for _, e := range refusals {
		if e.Code == code {
			return true
		}
	}
	return false
}

// errorCodes finds all codes in a response.
func errorCodes(v reflect.Value) (codes []int16) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return errorCodes(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			codes = append(codes, errorCodes(v.Index(i))...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case f.Name == "ErrorCode":
				codes = append(codes, int16(v.Field(i).Int()))
			case f.IsExported():
				codes = append(codes, errorCodes(v.Field(i))...)
			}
		}
	}
	return codes
}
