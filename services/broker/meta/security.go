package meta

// Changes of who may do what, and how much of it.
const (
	kindQuotas     kind = 10 // []Quota
	kindPutACLs    kind = 11 // []ACL
	kindDeleteACLs kind = 12 // []ACL
	kindScrams     kind = 13 // []Scram
)

// security is the part of the state that says who may do what.
type security struct {
	acls   map[ACL]struct{}
	scram  map[scramKey]Scram
	quotas map[string]Quota // by QuotaEntity.Key
}

func newSecurity() security {
	return security{acls: map[ACL]struct{}{}, scram: map[scramKey]Scram{}, quotas: map[string]Quota{}}
}

func (s *state) snapshotSecurity(emit func([]byte)) {
	s.snapshotQuotas(emit)
	s.snapshotACLs(emit)
	s.snapshotScrams(emit)
}
