package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
)

// clusterName is the one resource of type Cluster.
const clusterName = "kafka-cluster"

// allowed reports whether the client that sent r may do op on a resource.
// Every handler asks it for each resource it touches, with the operation that
// Kafka's own authorization table names, and answers a refusal with the error
// of that resource (TopicAuthorizationFailed and so on).
func (s *Server) allowed(r *request, op kmsg.ACLOperation, kind kmsg.ACLResourceType, name string) bool {
	return s.Authorizer == nil || s.Authorizer.Allowed(r.from.guard.subject, op, kind, name)
}

// allowedCluster is allowed for the cluster.
func (s *Server) allowedCluster(r *request, op kmsg.ACLOperation) bool {
	return s.allowed(r, op, kmsg.ACLResourceTypeCluster, clusterName)
}

// allowedSomewhere reports whether the client may do op on any resource of a
// kind.
func (s *Server) allowedSomewhere(r *request, op kmsg.ACLOperation, kind kmsg.ACLResourceType) bool {
	return s.Authorizer == nil || s.Authorizer.AllowedSomewhere(r.from.guard.subject, op, kind)
}

// authorizedOperations is the set of what the client may do on a resource, as
// responses tell it (KIP-430).
func (s *Server) authorizedOperations(r *request, kind kmsg.ACLResourceType, name string) int32 {
	if s.Authorizer == nil {
		return auth.AllOperations(kind)
	}
	return s.Authorizer.Operations(r.from.guard.subject, kind, name)
}

// refusals are the errors of what a client may not do, by resource.
var refusals = map[kmsg.ACLResourceType]*kerr.Error{
	kmsg.ACLResourceTypeTopic:           kerr.TopicAuthorizationFailed,
	kmsg.ACLResourceTypeGroup:           kerr.GroupAuthorizationFailed,
	kmsg.ACLResourceTypeCluster:         kerr.ClusterAuthorizationFailed,
	kmsg.ACLResourceTypeTransactionalId: kerr.TransactionalIDAuthorizationFailed,
	kmsg.ACLResourceTypeUser:            kerr.ClusterAuthorizationFailed,
}

// refused is nil when the client may do op on a resource, else the error to
// answer.
func (s *Server) refused(r *request, op kmsg.ACLOperation, kind kmsg.ACLResourceType, name string) error {
	if s.allowed(r, op, kind, name) {
		return nil
	}
	return refusals[kind]
}

// principal is who sent r, "User:name".
func (r *request) principal() string {
	if r.from == nil {
		return auth.Anonymous
	}
	return r.from.guard.principal
}
