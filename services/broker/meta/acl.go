package meta

import (
	"cmp"
	"maps"
	"slices"
)

// ACL is one access rule; the numbers are the protocol's
// (AclOperation, ResourceType, PatternType, AclPermissionType).
type ACL struct {
	Type       int8   `json:"t"`
	Name       string `json:"n"`
	Pattern    int8   `json:"p"` // 3 literal, 4 prefixed
	Principal  string `json:"u"` // "User:name", "User:*" is everybody
	Host       string `json:"h"` // an IP address, or "*"
	Operation  int8   `json:"o"`
	Permission int8   `json:"a"` // 2 deny, 3 allow
}

func (a ACL) compare(b ACL) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Pattern, b.Pattern),
		cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Host, b.Host),
		cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Permission, b.Permission))
}

// aclBatch is how many rules one change holds at most; with the longest of
// names, each byte of them escaped, they must fit frame.MaxPayload.
const aclBatch = 500

// MaxACLText is how long a rule's name, principal and host may be, each.
const MaxACLText = 1024

// ACLs returns all access rules, sorted.
func (st *Store) ACLs() []ACL {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return sortedACLs(st.s.acls)
}

// PutACLs adds access rules; one that is there already stays. Rules of one
// call become durable in portions.
func (st *Store) PutACLs(acls []ACL) error { return st.eachACLs(kindPutACLs, acls) }

// DeleteACLs removes access rules; one that is not there is passed over.
func (st *Store) DeleteACLs(acls []ACL) error { return st.eachACLs(kindDeleteACLs, acls) }

func (st *Store) eachACLs(k kind, acls []ACL) error {
	for part := range slices.Chunk(acls, aclBatch) {
		if err := st.j.Append(encode(k, part)); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) putACLs(acls []ACL) {
	for _, a := range acls {
		s.acls[a] = struct{}{}
	}
}

func (s *state) deleteACLs(acls []ACL) {
	for _, a := range acls {
		delete(s.acls, a)
	}
}

func (s *state) snapshotACLs(emit func([]byte)) {
	for part := range slices.Chunk(sortedACLs(s.acls), aclBatch) {
		emit(encode(kindPutACLs, part))
	}
}

func sortedACLs(m map[ACL]struct{}) []ACL { return slices.SortedFunc(maps.Keys(m), ACL.compare) }
