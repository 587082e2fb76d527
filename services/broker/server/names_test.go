package server

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestNamesAreText: a name that is not UTF-8 would be another one after the
// next start, as the journal keeps text. It is refused, with the code for a
// request that is wrong in itself.
func TestNamesAreText(t *testing.T) {
	s := newServer(t)
	if _, err := s.Catalog.Create("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	c := talker{t, dial(t, listen(t, s))}
	bad := "na\xffme"
	invalid := kerr.InvalidRequest.Code
	check := func(what string, got, want int16) {
		t.Helper()
		if got != want {
			t.Errorf("%s: code %d, want %d", what, got, want)
		}
	}
	join := func(edit func(*kmsg.JoinGroupRequest)) int16 {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = "g", "consumer", 10000, 10000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		edit(req)
		req.Version = 5
		resp := kmsg.NewPtrJoinGroupResponse()
		c.ask(req, resp)
		return resp.ErrorCode
	}
	check("join", join(func(*kmsg.JoinGroupRequest) {}), kerr.MemberIDRequired.Code)
	check("instance", join(func(r *kmsg.JoinGroupRequest) { r.InstanceID = &bad }), invalid)
	check("member", join(func(r *kmsg.JoinGroupRequest) { r.MemberID = bad }), invalid)
	check("protocol", join(func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = bad }), invalid)
	check("protocol type", join(func(r *kmsg.JoinGroupRequest) { r.ProtocolType = bad }), invalid)
	beat := func(edit func(*kmsg.ConsumerGroupHeartbeatRequest)) int16 {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.RebalanceTimeoutMillis = "c", "m", 10000
		req.SubscribedTopicNames, req.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		edit(req)
		return heartbeat(c, req)
	}
	check("heartbeat", beat(func(*kmsg.ConsumerGroupHeartbeatRequest) {}), 0)
	check("consumer's member", beat(func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberID = bad }), invalid)
	check("consumer's instance", beat(func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.InstanceID = &bad }), invalid)
	check("rack", beat(func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RackID = &bad }), invalid)
	check("topic", beat(func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames[0] = bad }), invalid)
	check("expression", beat(func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicRegex = &bad }), invalid)
	acl := func(resource, principal string) error {
		_, err := newACL(kmsg.CreateACLsRequestCreation{
			ResourceType: kmsg.ACLResourceTypeTopic, ResourceName: resource, ResourcePatternType: kmsg.ACLResourcePatternTypeLiteral,
			Principal: principal, Host: "*", Operation: kmsg.ACLOperationRead, PermissionType: kmsg.ACLPermissionTypeAllow,
		})
		return err
	}
	check("rule", code(acl("t", "User:x")), 0)
	check("rule's resource", code(acl(bad, "User:x")), invalid)
	check("rule's principal", code(acl("t", "User:"+bad)), invalid)
	for _, kind := range []string{quotaUser, quotaClient} {
		_, err := quotaEntity([]kmsg.AlterClientQuotasRequestEntryEntity{quotaFor(kind, bad)})
		check("quota of "+kind, code(err), invalid)
	}
	scram := kmsg.AlterUserSCRAMCredentialsRequestUpsertion{Name: bad, Mechanism: 1, Iterations: 4096, Salt: []byte("salt"), SaltedPassword: []byte("p")}
	check("user", code(checkUpsertion(scram)), kerr.UnacceptableCredential.Code)
}

func heartbeat(c talker, req *kmsg.ConsumerGroupHeartbeatRequest) int16 {
	req.Version = 1
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	c.ask(req, resp)
	return resp.ErrorCode
}

// TestFeatureLevels: a level is in force, and what it may be set to, and how,
// is Kafka's.
func TestFeatureLevels(t *testing.T) {
	s := newServer(t)
	c := talker{t, dial(t, listen(t, s))}
	const up, safe, unsafe = 1, 2, 3
	set := func(level int16, how int8) int16 {
		req := kmsg.NewPtrUpdateFeaturesRequest()
		u := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
		u.Feature, u.MaxVersionLevel, u.UpgradeType = groupVersion, level, how
		req.FeatureUpdates = append(req.FeatureUpdates, u)
		return ask[*kmsg.UpdateFeaturesResponse](t, s, req, 1).ErrorCode
	}
	answers := func(want int16) {
		t.Helper()
		beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		beat.Group, beat.MemberID, beat.RebalanceTimeoutMillis = "c", "m", 10000
		beat.SubscribedTopicNames, beat.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if got := heartbeat(c, beat); got != want {
			t.Errorf("ConsumerGroupHeartbeat: code %d, want %d", got, want)
		}
		describe := kmsg.NewPtrConsumerGroupDescribeRequest()
		describe.Groups = []string{"c"}
		if got := ask[*kmsg.ConsumerGroupDescribeResponse](t, s, describe, 1).Groups[0].ErrorCode; got != want {
			t.Errorf("ConsumerGroupDescribe: code %d, want %d", got, want)
		}
	}
	answers(0)
	for _, step := range []struct {
		level int16
		how   int8
		want  error
		after int16
	}{
		{0, up, kerr.InvalidUpdateVersion, 0},
		{2, up, kerr.InvalidUpdateVersion, 0},
		{0, 0, kerr.InvalidUpdateVersion, 0},
		{0, safe, nil, kerr.UnsupportedVersion.Code},
		{1, safe, kerr.InvalidUpdateVersion, kerr.UnsupportedVersion.Code},
		{1, up, nil, 0},
		{0, unsafe, nil, kerr.UnsupportedVersion.Code},
	} {
		if got := set(step.level, step.how); got != code(step.want) {
			t.Errorf("level %d, upgrade type %d: code %d, want %d", step.level, step.how, got, code(step.want))
		}
		answers(step.after)
	}
}
