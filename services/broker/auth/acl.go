package auth

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// Policy is what the access rules do not say.
type Policy struct {
	SuperUsers []string // principals, "User:name", that may do everything
	// AllowIfNone allows everybody what no rule speaks of, as Kafka's
	// allow.everyone.if.no.acl.found.
	AllowIfNone bool
}

// Authorizer judges by access rules as Kafka's does: a deny beats an allow,
// and what no rule allows is refused. Safe for concurrent use.
type Authorizer struct {
	policy Policy
	table  atomic.Pointer[table]
}

// NewAuthorizer returns one with some rules.
func NewAuthorizer(p Policy, acls []meta.ACL) *Authorizer {
	a := &Authorizer{policy: p}
	a.Set(acls)
	return a
}

// Set replaces all rules; the next question is answered by the new ones.
func (a *Authorizer) Set(acls []meta.ACL) { a.table.Store(newTable(acls)) }

// Subject is who asks: one connection's principal and address. What its
// questions were answered is remembered and shared with its equals.
type Subject struct {
	principal, host string
	super           bool
	view            atomic.Pointer[view]
}

// Subject prepares questions of one principal ("User:name") at an IP address.
func (a *Authorizer) Subject(principal, host string) *Subject {
	return &Subject{principal: principal, host: host, super: slices.Contains(a.policy.SuperUsers, principal)}
}

// Allowed reports whether s may do op on a resource.
func (a *Authorizer) Allowed(s *Subject, op kmsg.ACLOperation, kind kmsg.ACLResourceType, name string) bool {
	return s.super || a.operations(s, kind, name)&(1<<op) != 0
}

// Operations is the set of what s may do on a resource: bit n stands for
// operation n, as in the protocol's AuthorizedOperations (KIP-430).
func (a *Authorizer) Operations(s *Subject, kind kmsg.ACLResourceType, name string) int32 {
	if s.super {
		return AllOperations(kind)
	}
	return a.operations(s, kind, name) & AllOperations(kind)
}

func (a *Authorizer) operations(s *Subject, kind kmsg.ACLResourceType, name string) int32 {
	t := a.table.Load()
	v := s.view.Load()
	if v == nil || v.table != t {
		v = t.viewOf(s)
		s.view.Store(v)
	}
	return v.operations(resource{kind, name}, a.policy.AllowIfNone)
}

// AllowedSomewhere reports whether s may do op on any resource of a kind, as
// a producer without a transactional id must on some topic.
func (a *Authorizer) AllowedSomewhere(s *Subject, op kmsg.ACLOperation, kind kmsg.ACLResourceType) bool {
	if s.super {
		return true
	}
	t := a.table.Load()
	everywhere := t.verdict(s, op, t.literal[resource{kind, "*"}])
	if everywhere == denied {
		return false
	}
	if everywhere == allowed || a.policy.AllowIfNone {
		return true
	}
	for r, rules := range t.literal {
		if r.kind == kind && t.verdict(s, op, rules) == allowed && a.Allowed(s, op, kind, r.name) {
			return true
		}
	}
	for _, p := range t.prefixed[kind] {
		if t.verdict(s, op, p.rules) == allowed && t.verdict(s, op, t.prefixes(nil, resource{kind, p.prefix})) == allowed {
			return true
		}
	}
	return false
}

type resource struct {
	kind kmsg.ACLResourceType
	name string
}

// table is one state of all rules, by what they are about.
type table struct {
	literal  map[resource][]meta.ACL
	prefixed map[kmsg.ACLResourceType][]prefixed
	byHost   bool // a rule names an address

	mu    sync.Mutex
	views map[[2]string]*view
}

type prefixed struct {
	prefix string
	rules  []meta.ACL
}

func newTable(acls []meta.ACL) *table {
	t := &table{literal: map[resource][]meta.ACL{}, prefixed: map[kmsg.ACLResourceType][]prefixed{}, views: map[[2]string]*view{}}
	for _, a := range acls {
		t.byHost = t.byHost || a.Host != "*"
		kind := kmsg.ACLResourceType(a.Type)
		if kmsg.ACLResourcePatternType(a.Pattern) != kmsg.ACLResourcePatternTypePrefixed {
			r := resource{kind, a.Name}
			t.literal[r] = append(t.literal[r], a)
			continue
		}
		all := t.prefixed[kind]
		i := slices.IndexFunc(all, func(p prefixed) bool { return p.prefix == a.Name })
		if i < 0 {
			i, all = len(all), append(all, prefixed{prefix: a.Name})
		}
		all[i].rules = append(all[i].rules, a)
		t.prefixed[kind] = all
	}
	return t
}

// rules are those that speak of r, whoever they are for.
func (t *table) rules(r resource) []meta.ACL {
	out := slices.Clone(t.literal[r])
	if r.name != "*" {
		out = append(out, t.literal[resource{r.kind, "*"}]...)
	}
	return t.prefixes(out, r)
}

func (t *table) prefixes(out []meta.ACL, r resource) []meta.ACL {
	for _, p := range t.prefixed[r.kind] {
		if strings.HasPrefix(r.name, p.prefix) {
			out = append(out, p.rules...)
		}
	}
	return out
}

type verdict int

const (
	silent verdict = iota
	allowed
	denied
)

// verdict is what some rules say of s doing op.
func (t *table) verdict(s *Subject, op kmsg.ACLOperation, rules []meta.ACL) verdict {
	v := silent
	for _, r := range rules {
		if !s.is(r) {
			continue
		}
		deny := kmsg.ACLPermissionType(r.Permission) == kmsg.ACLPermissionTypeDeny
		switch {
		case !covers(kmsg.ACLOperation(r.Operation), op, deny):
		case deny:
			return denied
		default:
			v = allowed
		}
	}
	return v
}

func (s *Subject) is(r meta.ACL) bool {
	return (r.Principal == s.principal || r.Principal == Everybody) && (r.Host == "*" || r.Host == s.host)
}

// implied are the operations that an allowed one brings along. A denied one
// brings none.
var implied = map[kmsg.ACLOperation][]kmsg.ACLOperation{
	kmsg.ACLOperationDescribe:        {kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDelete, kmsg.ACLOperationAlter},
	kmsg.ACLOperationDescribeConfigs: {kmsg.ACLOperationAlterConfigs},
}

func covers(rule, op kmsg.ACLOperation, deny bool) bool {
	return rule == op || rule == kmsg.ACLOperationAll || !deny && slices.Contains(implied[op], rule)
}

// maxViews and maxKnown bound what is remembered; beyond, all is forgotten.
const (
	maxViews = 1024
	maxKnown = 4096
)

// view remembers, for one principal at one address, what it may do where.
type view struct {
	table *table
	who   *Subject

	mu    sync.RWMutex
	known map[resource]int32
}

// viewOf finds the view of a principal. Addresses count only if a rule names
// one.
func (t *table) viewOf(s *Subject) *view {
	key := [2]string{s.principal, "*"}
	if t.byHost {
		key[1] = s.host
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if v := t.views[key]; v != nil {
		return v
	}
	if len(t.views) >= maxViews {
		clear(t.views)
	}
	v := &view{table: t, who: &Subject{principal: s.principal, host: s.host}, known: map[resource]int32{}}
	t.views[key] = v
	return v
}

func (v *view) operations(r resource, allowIfNone bool) int32 {
	v.mu.RLock()
	ops, ok := v.known[r]
	v.mu.RUnlock()
	if ok {
		return ops
	}
	rules := v.table.rules(r)
	for op := kmsg.ACLOperationRead; op <= lastOperation; op++ {
		if verdict := v.table.verdict(v.who, op, rules); verdict == allowed || len(rules) == 0 && allowIfNone {
			ops |= 1 << op
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= maxKnown {
		clear(v.known)
	}
	r.name = strings.Clone(r.name) // it may alias a whole request
	v.known[r] = ops
	return ops
}

// lastOperation is TwoPhaseCommit, the highest number in use.
const lastOperation kmsg.ACLOperation = 15

// operationsOf lists what there is to be done on a kind of resource.
var operationsOf = map[kmsg.ACLResourceType][]kmsg.ACLOperation{
	kmsg.ACLResourceTypeTopic: {kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationCreate, kmsg.ACLOperationDelete,
		kmsg.ACLOperationAlter, kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs},
	kmsg.ACLResourceTypeGroup: {kmsg.ACLOperationRead, kmsg.ACLOperationDelete, kmsg.ACLOperationDescribe,
		kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs},
	kmsg.ACLResourceTypeCluster: {kmsg.ACLOperationCreate, kmsg.ACLOperationAlter, kmsg.ACLOperationDescribe, kmsg.ACLOperationClusterAction,
		kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs, kmsg.ACLOperationIdempotentWrite},
	kmsg.ACLResourceTypeTransactionalId: {kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe, lastOperation},
	kmsg.ACLResourceTypeUser:            {kmsg.ACLOperationCreateTokens, kmsg.ACLOperationDescribeTokens},
}

// AllOperations is the set of everything that can be done on a kind of
// resource, as Operations has it.
func AllOperations(kind kmsg.ACLResourceType) (set int32) {
	for _, op := range operationsOf[kind] {
		set |= 1 << op
	}
	return set
}

// Grantable reports whether a rule may give op on a kind of resource.
func Grantable(kind kmsg.ACLResourceType, op kmsg.ACLOperation) bool {
	return op == kmsg.ACLOperationAll || slices.Contains(operationsOf[kind], op)
}
