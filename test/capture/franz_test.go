package capture

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/waysideos/wayside/test/harness"
)

// versions are the brokers that franz-go is told to speak to.
var versions = map[string]*kversion.Versions{
	"1.0": kversion.V1_0_0(), "2.4": kversion.V2_4_0(), "2.8": kversion.V2_8_0(), "3.7": kversion.V3_7_0(), newest: kversion.Stable(),
}

const newest = "newest"

// franz does what applications do, by franz-go, over topics "t" and "c" and
// group "g", which FuzzRequest has too. What a version does not know fails,
// and is not judged here.
type franz struct {
	t    *testing.T
	addr string
	opt  *kversion.Versions
}

func (f *franz) client(opts ...kgo.Opt) *kgo.Client {
	return harness.Client(f.t, f.addr, append(opts, kgo.MaxVersions(f.opt), kgo.RetryTimeout(3*time.Second))...)
}

func (f *franz) all(seen func()) {
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	cl := f.client()
	defer cl.Close()
	adm := kadm.NewClient(cl)
	adm.CreateTopic(ctx, 2, 1, nil, "t")
	policy := "compact"
	adm.CreateTopic(ctx, 2, 1, map[string]*string{"cleanup.policy": &policy}, "c")
	seen()
	f.produce(ctx)
	f.transact(ctx)
	f.consume(ctx, adm)
	f.share(ctx, adm)
	f.admin(ctx, adm)
	f.security(ctx, adm)
	f.raw(ctx, cl)
}

func (f *franz) produce(ctx context.Context) {
	for i, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		opts := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner())}
		if i%2 == 0 {
			opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
		}
		cl := f.client(opts...)
		for j := range 2 * (i + 1) {
			cl.Produce(ctx, &kgo.Record{Topic: []string{"t", "c"}[j%2], Key: []byte("key"), Value: fmt.Appendf(nil, "%0*d", 20+i*10, j)}, nil)
		}
		cl.Flush(ctx)
		cl.Close()
	}
}

func (f *franz) transact(ctx context.Context) {
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(f.addr), kgo.MaxVersions(f.opt), kgo.RetryTimeout(3*time.Second),
		kgo.TransactionalID("x"), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets())
	if err != nil {
		f.t.Fatal(err)
	}
	defer session.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		poll, cancel := context.WithTimeout(ctx, 2*time.Second)
		session.PollFetches(poll)
		cancel()
		if session.Begin() != nil {
			return
		}
		session.ProduceSync(ctx, &kgo.Record{Topic: "c", Key: []byte("k"), Value: []byte("v")})
		session.End(ctx, end)
	}
}

func (f *franz) consume(ctx context.Context, adm *kadm.Client) {
	for _, opt := range []kgo.Opt{kgo.Balancers(kgo.RangeBalancer()), kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.InstanceID("static")} {
		with := ctx
		if f.opt == versions[newest] {
			with = context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true) //nolint:staticcheck // the client's name
		}
		cl := f.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t", "c"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), opt, kgo.WithContext(with))
		for range 2 {
			poll, cancel := context.WithTimeout(ctx, time.Second)
			cl.PollFetches(poll)
			cancel()
		}
		cl.CommitUncommittedOffsets(ctx)
		adm.DescribeGroups(ctx, "g")
		adm.DescribeConsumerGroups(ctx, "g")
		adm.FetchOffsets(ctx, "g")
		adm.LeaveGroup(ctx, kadm.LeaveGroup("g").InstanceIDs("static"))
		cl.Close()
	}
}

func (f *franz) share(ctx context.Context, adm *kadm.Client) {
	var at kadm.Offsets
	at.AddOffset("t", 0, 0, -1)
	adm.AlterShareGroupOffsets(ctx, "s", at)
	for _, ack := range []kgo.AckStatus{kgo.AckAccept, kgo.AckRelease} {
		cl := f.client(kgo.ShareGroup("s"), kgo.ConsumeTopics("t"))
		poll, cancel := context.WithTimeout(ctx, 2*time.Second)
		for i, r := range cl.PollFetches(poll).Records() {
			r.Ack(ack)
			if i == 2 {
				cl.FlushAcks(poll)
			}
		}
		cancel()
		adm.DescribeShareGroups(ctx, "s")
		adm.DescribeShareGroupOffsets(ctx, "s")
		cl.Close()
	}
	adm.DeleteShareGroupOffsets(ctx, "s", "t")
}

func (f *franz) admin(ctx context.Context, adm *kadm.Client) {
	value := "90000"
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}
	adm.AlterTopicConfigs(ctx, set, "t")
	adm.AlterTopicConfigsState(ctx, set, "t")
	adm.DescribeTopicConfigs(ctx, "t", "c")
	adm.DescribeBrokerConfigs(ctx, 1)
	adm.DescribeAllLogDirs(ctx, nil)
	adm.DescribeProducers(ctx, nil)
	adm.DescribeTransactions(ctx, "x")
	adm.ListTransactions(ctx, nil, nil)
	adm.ListGroups(ctx)
	adm.ListEndOffsets(ctx, "t")
	adm.ListMaxTimestampOffsets(ctx, "t")
	adm.ListOffsetsAfterMilli(ctx, 5, "t", "c")
	adm.OffsetForLeaderEpoch(ctx, leaderEpochs())
	adm.ListPartitionReassignments(ctx, nil)
	adm.AlterPartitionAssignments(ctx, assignments())
	adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, nil)
	adm.CreatePartitions(ctx, 1, "c")
	var cut kadm.Offsets
	cut.AddOffset("t", 0, 1, -1)
	adm.DeleteRecords(ctx, cut)
	adm.DeleteOffsets(ctx, "g", cut.TopicsSet())
	adm.CommitOffsets(ctx, "gone", cut)
	adm.DeleteGroups(ctx, "gone")
	adm.CreateTopic(ctx, 1, 1, nil, "gone")
	adm.DeleteTopics(ctx, "gone")
	adm.UpdateFeatures(ctx, true)
}

func leaderEpochs() (r kadm.OffsetForLeaderEpochRequest) {
	r.Add("t", 0, 1)
	return r
}

func assignments() (r kadm.AlterPartitionAssignmentsReq) {
	r.Assign("t", 0, []int32{1})
	return r
}

func (f *franz) security(ctx context.Context, adm *kadm.Client) {
	acls := kadm.NewACLs().Topics("t").Groups("g").Allow("User:ann").AllowHosts().Operations(kadm.OpRead, kadm.OpWrite).ResourcePatternType(kadm.ACLPatternPrefixed)
	adm.CreateACLs(ctx, acls)
	adm.DescribeACLs(ctx, acls)
	adm.DeleteACLs(ctx, acls)
	ann := "ann"
	entity := kadm.ClientQuotaEntity{{Type: "user", Name: &ann}}
	adm.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 1e9}}}})
	adm.DescribeClientQuotas(ctx, false, []kadm.DescribeClientQuotaComponent{{Type: "user", MatchName: &ann}})
	adm.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "ann", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "secret"}})
	adm.DescribeUserSCRAMs(ctx, "ann")
	adm.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: "ann", Mechanism: kadm.ScramSha256}}, nil)
}

// raw are requests for which the client has no call of its own.
func (f *franz) raw(ctx context.Context, cl *kgo.Client) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	kmsg.NewPtrDescribeClusterRequest().RequestWith(ctx, cl)
	kmsg.NewPtrListConfigResourcesRequest().RequestWith(ctx, cl)
	quorum := kmsg.NewPtrDescribeQuorumRequest()
	quorum.Topics = []kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{}}}}
	quorum.RequestWith(ctx, cl)
	dirs := kmsg.NewPtrAlterReplicaLogDirsRequest()
	dirs.Dirs = []kmsg.AlterReplicaLogDirsRequestDir{{Dir: "topics", Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "t", Partitions: []int32{0, 9}}}}}
	cl.Broker(1).Request(ctx, dirs)
	topics := kmsg.NewPtrDescribeTopicPartitionsRequest()
	topics.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "t"}}
	topics.ResponsePartitionLimit = 10
	topics.RequestWith(ctx, cl)
	sasl := kmsg.NewPtrSASLHandshakeRequest()
	sasl.Mechanism = "PLAIN"
	sasl.RequestWith(ctx, cl)
	token := kmsg.NewPtrSASLAuthenticateRequest()
	token.SASLAuthBytes = []byte("\x00ann\x00secret")
	token.RequestWith(ctx, cl)
	markers := kmsg.NewPtrWriteTxnMarkersRequest()
	markers.Markers = []kmsg.WriteTxnMarkersRequestMarker{{ProducerID: 5, Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: "t", Partitions: []int32{0}}}}}
	markers.RequestWith(ctx, cl)
}
