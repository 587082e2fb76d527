package server

import "github.com/twmb/franz-go/pkg/kmsg"

// allowed reports whether the client that sent r may do op on a resource.
// Every handler asks it for each resource it touches, with the operation that
// Kafka's own authorization table names, and answers a refusal with the error
// of that resource (TopicAuthorizationFailed and so on).
func (s *Server) allowed(r *request, op kmsg.ACLOperation, kind kmsg.ACLResourceType, name string) bool {
	return true
}
